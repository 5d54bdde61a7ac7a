/** A log whose level can be set, over a function that takes what is written, whatever the level. */
import type { ConfigurableLog, LogSettings } from "../../src/appliance/host/logger.ts";
import type { Log } from "../../src/base/log.ts";

export class TestLog implements ConfigurableLog {
  settings: LogSettings = { level: "info", format: "logfmt" };
  readonly write: Log["write"];

  constructor(write: Log["write"]) {
    this.write = write;
  }

  configure(settings: LogSettings): void {
    this.settings = settings;
  }
}
