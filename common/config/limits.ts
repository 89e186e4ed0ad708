/** How much configuration there may be: far more than anybody writes, and little enough to read twice. */

/** Bytes in one file at most. */
export const CONFIG_FILE_SIZE_MAX_BYTES = 64 * 1024;
/** Lines in one file at most. */
export const CONFIG_FILE_LINE_COUNT_MAX = 2000;
/** Files in one `config.d` at most. */
export const CONFIG_FILE_COUNT_MAX = 256;
