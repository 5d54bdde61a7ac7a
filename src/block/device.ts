/**
 * The one interface of everything that stores bytes below an array: the aio device, the filters
 * over it, and the simulator's drives.
 *
 * Rules of the interface:
 * - `submit` takes a request of the IoTable and never completes it before it returns.
 * - Every request completes exactly once, through `onComplete(request, result)`: the number of
 *   bytes moved, or -errno. A flush completes with 0 or -errno.
 * - Offsets, lengths and addresses are whole rows of 4 KiB (write-rules 17).
 * - The layer above sets `onComplete` once, before its first submit.
 */
export type CompletionHandler = (request: number, result: number) => void;

export interface BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  onComplete: CompletionHandler;
  submit(request: number): void;
}
