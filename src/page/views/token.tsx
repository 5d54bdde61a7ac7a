/** Asks for the token, where the calls of the page need one. */
import { useState } from "preact/hooks";

interface Props {
  readonly refusal: string | null;
  readonly onToken: (token: string) => void;
}

export function TokenView({ refusal, onToken }: Props) {
  const [token, setToken] = useState("");
  const submit = (event: Event): void => {
    event.preventDefault();
    if (token.trim() !== "") onToken(token.trim());
  };
  return (
    <main id="main" class="token">
      <h1 tabIndex={-1}>parityd</h1>
      <p>
        Calls over TCP need a token: a line of <code>api-token</code> in the state directory,
        without its first word. On the machine itself, <code>parityd ui</code> needs none; its link
        is good for one tab.
      </p>
      <form onSubmit={submit}>
        <label class="field">
          <span>Token</span>
          <input
            type="password"
            value={token}
            autocomplete="off"
            onInput={(event) => setToken(event.currentTarget.value)}
          />
          <small>It is kept until this tab is closed, and nowhere else.</small>
        </label>
        {refusal !== null && (
          <p class="problem" role="alert">
            {refusal}
          </p>
        )}
        <button type="submit" class="main">
          Enter
        </button>
      </form>
    </main>
  );
}
