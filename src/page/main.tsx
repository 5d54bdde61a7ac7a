/** The page begins: one store, one tree of components. */
import { render } from "preact";
import { App } from "./app.tsx";
import { Store } from "./store.ts";

const store = new Store();
const root = document.getElementById("page");
if (root !== null) render(<App store={store} />, root);
void store.start();
