/** /v1/status, /metrics, /openapi.json, /-/healthy and /-/ready. */
import type { Appliance } from "../../appliance/appliance.ts";
import { statusDocument } from "../../appliance/status-document.ts";
import { VERSION } from "../../appliance/version.ts";
import { ok } from "../../base/result.ts";
import { documentDryRuns } from "../foretold-schemas.ts";
import { renderMetrics } from "../metrics.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addRoute, json, jsonOf, jsonText, NOT_YET_KEYS } from "../route.ts";
import { SharedAnswer } from "../shared-answer.ts";
import { statusSchema } from "../status-schema.ts";

const READY_TIMEOUT_MS = 5_000;

export function addSystemRoutes(app: ApiApp, appliance: Appliance): void {
  app.openAPIRegistry.registerComponent("securitySchemes", "token", {
    type: "http",
    scheme: "bearer",
  });
  // Its text, too, is made once: each open page asks for it each second.
  const status = new SharedAnswer(async () => {
    const document = await statusDocument(appliance);
    return document.ok ? ok(jsonText(document.value)) : document;
  }, appliance.alarms);
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/status",
      summary: "All that there is to see, with what is wrong and what to do about it",
      answers: { 200: { description: "As parityd status, and more", schema: statusSchema } },
    },
    async () => {
      const text = await status.ask();
      return text.ok ? jsonOf(text.value) : problemResponse(text.error);
    },
  );
  app.get("/-/healthy", () => json({ status: "ok", recording: appliance.recording }));
  app.get("/-/ready", async () => {
    const isAnswering = await appliance.isAnsweringWithin(READY_TIMEOUT_MS);
    if (appliance.state === "ready" && isAnswering) return json({ status: "ready" });
    const detail =
      appliance.state === "stopping"
        ? "parityd is stopping"
        : isAnswering
          ? "drives are being opened and arrays assembled: ask again"
          : `the reactor has not answered for ${READY_TIMEOUT_MS / 1_000} s; its log says more`;
    return problemResponse({ kind: "stopping", code: "not-ready", detail });
  });
  app.get("/metrics", async () => {
    const arrays = await appliance.listArrays();
    if (!arrays.ok) return problemResponse(arrays.error);
    const exports = await appliance.exports.list();
    if (!exports.ok) return problemResponse(exports.error);
    const spares = await appliance.spares.list();
    if (!spares.ok) return problemResponse(spares.error);
    const schedules = await appliance.schedules.list();
    if (!schedules.ok) return problemResponse(schedules.error);
    const drives = await appliance.listDrives();
    if (!drives.ok) return problemResponse(drives.error);
    const nbd = await appliance.nbdStats();
    if (!nbd.ok) return problemResponse(nbd.error);
    const latencies = await appliance.latencies();
    if (!latencies.ok) return problemResponse(latencies.error);
    const text = renderMetrics({
      version: VERSION,
      arrays: arrays.value,
      exports: exports.value,
      spares: spares.value,
      schedules: schedules.value,
      drives: drives.value,
      nbd: nbd.value,
      latencies: latencies.value,
      recording: appliance.recording,
      alerts: appliance.alerts.counts,
    });
    return new Response(text, {
      headers: { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" },
    });
  });
  app.get("/openapi.json", () => {
    const document = app.getOpenAPI31Document({
      openapi: "3.1.0",
      info: {
        ...{ title: "parityd", version: VERSION, description: DESCRIPTION },
        license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
      },
      servers: [{ url: "/", description: "api.sock, or the address of --api-tcp" }],
      // Over the Unix socket nothing is asked for, over TCP a token.
      security: [{}, { token: [] }],
    });
    const plain = JSON.parse(JSON.stringify(document)) as Parameters<typeof documentDryRuns>[0];
    documentDryRuns(plain, NOT_YET_KEYS);
    return json(plain);
  });
}

const DESCRIPTION =
  "RAID5 arrays in Linux md format. POST takes an Idempotency-Key; calls that change an array " +
  "take If-Match with its event count.";
