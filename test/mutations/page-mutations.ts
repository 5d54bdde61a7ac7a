/** Mutations of the page and of who may use it. */
import type { Mutation } from "./mutations.ts";

const SERVED = ["./test/unit/api/page.test.ts"];
const GATE = ["./test/unit/cli/ui-gate.test.ts"];
const STRIPS = ["./test/unit/page/strips.test.ts"];

export const PAGE_MUTATIONS: readonly Mutation[] = [
  {
    name: "the ticket of a link is good twice",
    rule: null,
    file: "src/cli/ui-gate.ts",
    find: "    this.ticket = this.parts.newSecret();\n    const token",
    replace: "    const token",
    test: GATE,
  },
  {
    name: "parityd ui lets calls through without a token",
    rule: null,
    file: "src/cli/ui-gate.ts",
    find: 'if (!isKnown) return problemResponse({ kind: "unauthorized" });',
    replace: "",
    test: GATE,
  },
  {
    name: "parityd ui answers under any name",
    rule: null,
    file: "src/cli/ui-gate.ts",
    find: "if (host === null || !hosts.includes(host)) {",
    replace: "if (host === null) {",
    test: GATE,
  },
  {
    name: "the daemon gets the token of parityd ui",
    rule: null,
    file: "src/cli/ui-gate.ts",
    find: '...["accept", "content-type",',
    replace: '...["accept", "authorization", "content-type",',
    test: GATE,
  },
  {
    name: "a page of another port calls over the Unix socket",
    rule: null,
    file: "src/api/auth.ts",
    find: 'new URL(origin).host === request.headers.get("host")',
    replace: "new URL(origin).hostname === host",
    test: SERVED,
  },
  {
    name: "the whole API needs no token over TCP, as the page needs none",
    rule: null,
    file: "src/api/page/page-routes.ts",
    find: 'return path === "/" || path.startsWith("/assets/");',
    replace: 'return path.startsWith("/");',
    test: SERVED,
  },
  {
    name: "the page may run inline scripts",
    rule: null,
    file: "src/api/page/page-routes.ts",
    find: "default-src 'none'; script-src 'self';",
    replace: "default-src 'none'; script-src 'self' 'unsafe-inline';",
    test: SERVED,
  },
  {
    name: "a rebuild is drawn as if it had ended",
    rule: null,
    file: "src/page/strips.ts",
    find: 'return split("rebuilt", "pending",',
    replace: 'return split("rebuilt", "rebuilt",',
    test: STRIPS,
  },
  {
    name: "losses are drawn on every member",
    rule: null,
    file: "src/page/strips.ts",
    find: ".filter(({ roles }) => roles === null || roles.includes(member.role))",
    replace: "",
    test: STRIPS,
  },
  {
    name: "bad blocks are told from the begin of the drive",
    rule: null,
    file: "src/array/commands/status.ts",
    find: "offset: (sector - dataOffsetSectors) * SECTOR_BYTES,",
    replace: "offset: sector * SECTOR_BYTES,",
    test: ["./test/sim/array/forecast.test.ts", "-t", "bad blocks of others"],
  },
];
