/** Where in the page somebody is, by what stands behind the # of its address. Pure. */

export type Route =
  | { readonly view: "arrays" | "drives" | "clients" | "jobs" | "events" | "schedules" | "create" }
  | { readonly view: "array"; readonly name: string };

export const VIEWS = [
  ["arrays", "Arrays"],
  ["drives", "Drives"],
  ["clients", "Clients"],
  ["jobs", "Jobs"],
  ["events", "Events"],
  ["schedules", "Schedules"],
] as const;

export function routeOf(hash: string): Route {
  const [view = "", name] = hash.replace(/^#\/?/, "").split("/");
  if (view === "arrays" && name !== undefined && name !== "") {
    return { view: "array", name: decoded(name) };
  }
  const known = VIEWS.find(([key]) => key === view)?.[0];
  return { view: known ?? (view === "create" ? view : "arrays") };
}

export function arrayHref(name: string): string {
  return `#/arrays/${encodeURIComponent(name)}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
