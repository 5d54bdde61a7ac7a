/** The page. */
import { render } from "preact";

render(<main>hello</main>, document.getElementById("page")!);
