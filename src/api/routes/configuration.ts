/** /v1/configuration: all that state.db knows of drives, labels, exports, spares and schedules. */

import type { Appliance } from "../../appliance/appliance.ts";
import { applyConfiguration, currentConfiguration } from "../../appliance/configuration.ts";
import { counted, wordFor } from "../../base/counted.ts";
import {
  CONFIGURATION_SCHEMA,
  configurationChangesSchema,
  configurationSchema,
} from "../configuration-schemas.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addChange, addRoute, json } from "../route.ts";

export function addConfigurationRoutes(app: ApiApp, appliance: Appliance): void {
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/configuration",
      summary: "All that this host remembers and no superblock says, as one document",
      answers: { 200: { description: "The document", schema: configurationSchema } },
    },
    async () => json({ schema: CONFIGURATION_SCHEMA, ...currentConfiguration(appliance) }),
  );
  addChange(
    app,
    {
      method: "put",
      path: "/v1/configuration",
      summary: "Add what is missing here and change what differs; takes nothing away",
      body: configurationSchema,
      answers: {
        200: { description: "What was changed, or would be", schema: configurationChangesSchema },
      },
    },
    async ({ body, effects }) => {
      const { schema: _schema, ...wanted } = body;
      const changes = await applyConfiguration(appliance, wanted, effects);
      const refused = changes.filter(({ outcome }) => outcome === "refused");
      if (refused.length === 0) return json({ changes });
      const isAll = refused.length === changes.length;
      const others = effects.isDry ? "would be done" : "are done";
      const refusal = effects.isDry ? "would be" : wordFor(refused.length, "was", "were");
      const reasons = refused.map(({ kind, name, reason }) => `${kind} ${name}: ${reason}`);
      const detail =
        `${refused.length} of ${counted(changes.length, "change")} ${refusal} refused` +
        `${isAll ? ":" : `, the others ${others}.`} ${reasons.join("; ")}`;
      return problemResponse({ kind: "conflict", code: "configuration-incomplete", detail });
    },
  );
}
