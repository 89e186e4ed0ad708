/** The question that only a system call answers: whether the clock is kept. */
import koffi from 'koffi';

const libc = koffi.load(null);
const adjtimexCall = libc.func('int adjtimex(void *timex)');

/** Linux `include/uapi/linux/timex.h`: the state of a clock that nothing keeps, and the struct's size. */
const TIME_ERROR = 5;
const TIMEX_SIZE_BYTES = 208;

/** Whether something keeps the clock right, by adjtimex(2); undefined when the kernel does not say. */
export function clockSynchronised(): boolean | undefined {
  // All modes zero: a question, not an order.
  const state = adjtimexCall(Buffer.alloc(TIMEX_SIZE_BYTES)) as number;
  return state < 0 ? undefined : state !== TIME_ERROR;
}
