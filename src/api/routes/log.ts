/** /v1/log: how much the daemon says, until SIGHUP or a restart. */
import { z } from "@hono/zod-openapi";
import type { ConfigurableLog } from "../../appliance/host/logger.ts";
import { LOG_LEVELS } from "../../base/log.ts";
import { type ApiApp, addChange, addRoute, json } from "../route.ts";

const level = z.enum(LOG_LEVELS);
const logSchema = z.object({ level, format: z.enum(["logfmt", "json"]) });

export function addLogRoutes(app: ApiApp, log: ConfigurableLog): void {
  const path = "/v1/log";
  const summary = "The level and the format of the log";
  const answers = { 200: { description: "They are so now", schema: logSchema } };
  addRoute(app, { method: "get", path, summary, answers }, async () => json(log.settings));
  addChange(
    app,
    {
      method: "put",
      path,
      summary: "Say more or less from now on; SIGHUP and a restart go by the configuration again",
      body: z.strictObject({ level }),
      answers,
    },
    async ({ body, effects }) => {
      if (effects.isDry) return json({ ...log.settings, level: body.level });
      log.configure({ ...log.settings, level: body.level });
      log.write("info", "the level of the log was changed", { level: body.level });
      return json(log.settings);
    },
  );
}
