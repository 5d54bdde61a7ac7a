/** The frame of every view: where one is, whether the daemon answers, the dialog that is open. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { ActionSpec } from "./action-spec.ts";
import { SceneContext } from "./context.ts";
import { ActionDialog } from "./parts/action-dialog.tsx";
import { Findings } from "./parts/findings.tsx";
import { type Route, routeOf, VIEWS } from "./route.ts";
import type { Known, Store } from "./store.ts";
import { ArrayView } from "./views/array.tsx";
import { ArraysView } from "./views/arrays.tsx";
import { ClientsView } from "./views/clients.tsx";
import { CreateView } from "./views/create.tsx";
import { DrivesView } from "./views/drives.tsx";
import { EventsView } from "./views/events.tsx";
import { JobsView } from "./views/jobs.tsx";
import { SchedulesView } from "./views/schedules.tsx";
import { TokenView } from "./views/token.tsx";

export function App({ store }: { readonly store: Store }) {
  const known = useKnown(store);
  const route = useRoute();
  const [action, act] = useState<ActionSpec | null>(null);
  const { status, events, contact } = known;
  useTitle(known);
  if (contact === "asking") {
    return <TokenView refusal={known.refusal} onToken={(token) => store.enter(token)} />;
  }
  const done = (notice: string): void => {
    act(null);
    store.say(notice);
    store.look();
    // The button that began it may be gone with what it did: the focus is to be somewhere.
    goToContent();
  };
  return (
    <>
      <Header route={route} known={known} onLeave={() => store.leave()} />
      {contact === "silent" && (
        <p class="silent" role="alert">
          parityd does not answer. {status === null ? "" : "What is shown is old."}
        </p>
      )}
      <p class="notice" role="status">
        {known.notice}
      </p>
      <main id="main">
        {status === null ? (
          <p>Asking parityd…</p>
        ) : (
          <SceneContext.Provider value={{ status, events, history: store.history, act, done }}>
            <Findings findings={status.findings} />
            <View route={route} />
          </SceneContext.Provider>
        )}
      </main>
      {action !== null && <ActionDialog action={action} onClose={() => act(null)} onDone={done} />}
    </>
  );
}

function View({ route }: { readonly route: Route }) {
  const place = route.view === "array" ? route.name : route.view;
  const box = useRef<HTMLDivElement>(null);
  const first = useRef(place);
  // Who went somewhere is there: a screen reader reads the new heading.
  useEffect(() => {
    if (first.current === place) return;
    first.current = place;
    box.current?.querySelector("h1")?.focus();
  }, [place]);
  return (
    <div ref={box} key={place}>
      {viewOf(route)}
    </div>
  );
}

function viewOf(route: Route) {
  switch (route.view) {
    case "array":
      return <ArrayView name={route.name} />;
    case "drives":
      return <DrivesView />;
    case "clients":
      return <ClientsView />;
    case "jobs":
      return <JobsView />;
    case "events":
      return <EventsView />;
    case "schedules":
      return <SchedulesView />;
    case "create":
      return <CreateView />;
    default:
      return <ArraysView />;
  }
}

interface HeaderProps {
  readonly route: Route;
  readonly known: Known;
  readonly onLeave: () => void;
}

function Header({ route, known: { contact, status }, onLeave }: HeaderProps) {
  const here = route.view === "array" || route.view === "create" ? "arrays" : route.view;
  return (
    <header>
      <button type="button" class="skip" onClick={goToContent}>
        To the content
      </button>
      <strong>parityd</strong>
      <nav aria-label="Views">
        {VIEWS.map(([view, label]) => (
          <a key={view} href={`#/${view}`} aria-current={view === here ? "page" : undefined}>
            {label}
          </a>
        ))}
      </nav>
      <small>
        {status?.version} {contact === "looking" ? "live" : contact}
      </small>
      {sessionStorage.length > 0 && (
        <button type="button" onClick={onLeave}>
          Forget token
        </button>
      )}
    </header>
  );
}

function goToContent(): void {
  document.querySelector<HTMLElement>("main h1")?.focus();
}

function useKnown(store: Store): Known {
  const [known, setKnown] = useState(store.known);
  useEffect(() => {
    setKnown(store.known);
    return store.subscribe(() => setKnown(store.known));
  }, [store]);
  return known;
}

/** What is wrong is seen in the list of tabs as well. */
function useTitle({ status, contact }: Known): void {
  const ill = status?.judgements.findIndex(({ health }) => health !== "fine") ?? -1;
  const first = status?.arrays[ill];
  const sign = first === undefined ? "" : `${first.name}: ${status?.judgements[ill]?.health} – `;
  const title = contact === "silent" ? "no answer – parityd" : `${sign}parityd`;
  useEffect(() => {
    document.title = title;
  }, [title]);
}

function useRoute(): Route {
  const [route, setRoute] = useState(() => routeOf(location.hash));
  useEffect(() => {
    const follow = (): void => setRoute(routeOf(location.hash));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}
