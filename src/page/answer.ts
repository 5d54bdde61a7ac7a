/** What a call of the page comes to. */

export interface Problem {
  /** 0: nobody answered. */
  readonly status: number;
  /** The tail of the problem's type: "drive-has-data". */
  readonly code: string;
  readonly detail: string;
}

export type Answer<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problem: Problem };
