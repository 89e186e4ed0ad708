/** How a process of ours that serves page traffic keeps its loop awake: by the machine's clock, offering the processor. */
import { monotonicClock } from './clock.ts';
import { EventLoopSpin, SPIN_WINDOW_DEFAULT_US } from './event-loop-spin.ts';
import { yieldProcessor } from './libc.ts';

/** Makes the one that all shells of this process share. */
export function makeProcessSpin(): EventLoopSpin {
  return new EventLoopSpin(monotonicClock, SPIN_WINDOW_DEFAULT_US, yieldProcessor);
}
