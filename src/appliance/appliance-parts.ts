/** What an appliance is made of: handed in, so that a test hands in its own. */
import type { Log } from "../base/log.ts";
import type { AlertWay } from "./alerts/alert.ts";
import type { NbdDriver } from "./attach/nbd-driver.ts";
import type { DriveOpener } from "./helper/drive-opener.ts";
import type { ToolRunner } from "./host/linux-tool.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { Alarms } from "./state/alarms.ts";
import type { EventLog } from "./state/event-log.ts";
import type { JobBook } from "./state/job-book.ts";
import type { StateStore } from "./state/state-store.ts";

export interface ApplianceParts {
  readonly client: ReactorClient;
  readonly opener: DriveOpener;
  readonly tools: ToolRunner;
  readonly nbdDriver: NbdDriver;
  readonly store: StateStore;
  readonly events: EventLog;
  readonly jobs: JobBook;
  readonly alarms: Alarms;
  readonly log: Log;
  readonly newUuid: () => string;
  readonly allowFaultInjection: boolean;
  readonly alertWays?: readonly AlertWay[];
}
