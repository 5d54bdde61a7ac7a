/**
 * /v1/events: as server-sent events, or as JSON by `Accept`; /v1/events/test: the ways of alerts.
 *
 * A stream is a cursor into state.db: each turn it sends what lies behind its last id, as much as
 * the client takes. So nothing is buffered for a slow client, and a replay is the same code. A
 * client that has taken nothing for `STALLED_TICKS` comments in a row is dropped.
 */
import { z } from "@hono/zod-openapi";
import type { Appliance } from "../../appliance/appliance.ts";
import type { EventLog } from "../../appliance/state/event-log.ts";
import type { StoredEvent } from "../../appliance/state/state.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addChange, addRoute, json } from "../route.ts";
import { alertsTestBody, alertsTestSchema, eventSchema, eventsQuery } from "../schemas.ts";

const PAGE_EVENTS = 100;
const STALLED_TICKS = 4;

export function addEventRoutes(app: ApiApp, appliance: Appliance, commentMs: number): void {
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/events",
      summary: "Events after ?since=ID or Last-Event-ID: server-sent, or JSON by Accept",
      query: eventsQuery,
      answers: { 200: { description: "The events", schema: z.array(eventSchema) } },
    },
    ({ query, context }) => {
      const accept = context.req.header("accept") ?? "";
      if (accept.includes("application/json") && !accept.includes("text/event-stream")) {
        return json(appliance.events.since(query.since ?? 0, query.limit).map(eventView));
      }
      const lastSeen = parseEventId(context.req.header("last-event-id"));
      const sinceId = lastSeen ?? query.since ?? appliance.events.lastId;
      return eventStream(appliance.events, { sinceId, commentMs });
    },
  );
  addChange(
    app,
    {
      method: "post",
      path: "/v1/events/test",
      summary: "Send a test by each way of alerts, or one webhook, and say whether it arrived",
      body: alertsTestBody,
      answers: { 200: { description: "What came of it, by each way", schema: alertsTestSchema } },
    },
    async ({ body, effects }) => {
      const ways = await appliance.alerts.test(body.webhook ?? null, effects);
      if (!ways.ok) return problemResponse(ways.error);
      if (effects.isDry) return json({ ways: ways.value });
      return json({ arrived: ways.value.every(({ arrived }) => arrived), ways: ways.value });
    },
  );
}

function parseEventId(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

export function eventView(event: StoredEvent): z.output<typeof eventSchema> {
  const { atMs, ...rest } = event;
  return { ...rest, at: new Date(atMs).toISOString() };
}

function eventStream(
  events: EventLog,
  { sinceId, commentMs }: { sinceId: number; commentMs: number },
): Response {
  const encoder = new TextEncoder();
  let lastId = sinceId;
  let stalledTicks = 0;
  let stop: () => void = () => {};

  function pump(controller: ReadableStreamDefaultController<Uint8Array>): void {
    while ((controller.desiredSize ?? 0) > 0) {
      const page = events.since(lastId, PAGE_EVENTS);
      if (page.length === 0) return;
      stalledTicks = 0;
      lastId = page[page.length - 1]?.id ?? lastId;
      controller.enqueue(encoder.encode(page.map(eventText).join("")));
    }
  }

  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const unsubscribe = events.subscribe(() => pump(controller));
      const timer = setInterval(() => {
        if ((controller.desiredSize ?? 0) > 0) {
          stalledTicks = 0;
          controller.enqueue(encoder.encode(": still here\n\n"));
          return;
        }
        stalledTicks += 1;
        if (stalledTicks < STALLED_TICKS) return;
        stop();
        controller.close();
      }, commentMs);
      stop = () => {
        unsubscribe();
        clearInterval(timer);
      };
      // The first bytes go out at once, so that a client sees that it is connected.
      controller.enqueue(encoder.encode(`: events after ${sinceId}\n\n`));
    },
    pull: pump,
    cancel: () => stop(),
  });
  return new Response(body, {
    headers: { "Content-Type": "text/event-stream", "Cache-Control": "no-store" },
  });
}

function eventText(event: StoredEvent): string {
  return `id: ${event.id}\nevent: ${event.kind}\ndata: ${JSON.stringify(eventView(event))}\n\n`;
}
