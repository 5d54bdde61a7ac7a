/**
 * Messages between the control thread and the reactor, as the reactor sees them.
 *
 * The control thread posts, then writes an eventfd. `onmessage` never fires in a loop that does not
 * return, so the reactor takes messages when the eventfd wakes it.
 */
export interface Mailbox<Incoming, Outgoing> {
  /** The next message, or undefined when there is none. */
  receive(): Incoming | undefined;
  post(message: Outgoing): void;
}
