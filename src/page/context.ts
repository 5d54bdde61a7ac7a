/** What every view has at hand: what is known, and how something is done. */
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { StatusDocument } from "../appliance/status-document.ts";
import type { ActionSpec } from "./action-spec.ts";
import type { PageEvent } from "./events.ts";
import type { RateHistory } from "./rates.ts";

export interface Scene {
  readonly status: StatusDocument;
  readonly events: readonly PageEvent[];
  readonly history: RateHistory;
  /** Opens the dialog of an action. */
  readonly act: (action: ActionSpec) => void;
  /** After something was done without a dialog. */
  readonly done: (notice: string) => void;
}

export const SceneContext = createContext<Scene | null>(null);

/** Views are drawn only within a scene. */
export function useScene(): Scene {
  const scene = useContext(SceneContext);
  if (scene === null) throw new Error("there is no scene");
  return scene;
}
