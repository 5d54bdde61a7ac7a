/** Ways to break how exports become block devices of the host's kernel. */
import type { Mutation } from "./mutations.ts";

const ATTACH = ["./test/unit/api/attach.test.ts"];
const DRIVER = ["./test/unit/appliance/nbd-driver.test.ts"];
const BOOK = "src/appliance/state/export-book.ts";
const KEEPER = "src/appliance/attachments.ts";

export const ATTACH_MUTATIONS: readonly Mutation[] = [
  {
    name: "attach: a device that somebody has is taken",
    rule: null,
    file: KEEPER,
    find: "if (named.isFree) return ok(named);",
    replace: "if (named.path !== '') return ok(named);",
    test: ATTACH,
  },
  {
    name: "attach: a free device is another export's at the next start",
    rule: null,
    file: KEEPER,
    find: "one.isFree && !others.has(one.path)",
    replace: "one.isFree",
    test: ATTACH,
  },
  {
    name: "attach: an export becomes another array's under a mounted file system",
    rule: null,
    file: BOOK,
    find: "if (attached !== null && isOther) return",
    replace: "if (attached !== null && isOther && name === '') return",
    test: ATTACH,
  },
  {
    name: "attach: the backend does not say which array",
    rule: null,
    file: "src/appliance/attach/nbd-driver.ts",
    find: `return \`parityd \${arrayUuid} \${name}\`;`,
    replace: `return \`parityd \${arrayUuid}\`;`,
    test: ATTACH,
  },
  {
    name: "attach: what could not be attached is remembered all the same",
    rule: null,
    file: KEEPER,
    find: 'if (!done.ok) store.note({ kind: "put-export", entry: before });',
    replace: "",
    test: ATTACH,
  },
  {
    name: "attach: a device that was found gets no connections",
    rule: null,
    file: KEEPER,
    find: "this.joined.has(backend) ? view.value.connections : 0",
    replace: "this.joined.has(backend) ? view.value.connections : NBD_CONNECTIONS",
    test: ATTACH,
  },
  {
    name: "attach: an array that runs again counts the clients of others",
    rule: null,
    file: KEEPER,
    find: "if (!view.value.isServed) {\n      this.joined.delete(backend);",
    replace: "if (!view.value.isServed) {",
    test: ATTACH,
  },
  {
    name: "attach: a device outlives its export",
    rule: null,
    file: KEEPER,
    find: "if (isOurs) await driver",
    replace: "if (!isOurs) await driver",
    test: ATTACH,
  },
  {
    name: "attach: a failure at the start is told each time",
    rule: null,
    file: KEEPER,
    find: "this.told.set(name, kept.error.detail);",
    replace: "",
    test: ATTACH,
  },
  {
    name: "attach: a kernel that keeps no backend is left with the device",
    rule: null,
    file: KEEPER,
    find: "if (!joined.ok || this.deviceOf(entry) !== null) return joined;",
    replace: "if (joined.ok || this.deviceOf(entry) !== null) return joined;",
    test: ATTACH,
  },
  {
    name: "attach: a stop is an error of the disk",
    rule: null,
    file: "src/appliance/appliance.ts",
    find: "    await this.attachments.endConnections();\n",
    replace: "",
    test: ATTACH,
  },
  {
    name: "attach: any path is a device",
    rule: null,
    file: "src/api/schemas.ts",
    find: "nbd(0|[1-9][0-9]{0,3})$/",
    replace: "nbd(0|[1-9][0-9]{0,3})/",
    test: ATTACH,
  },
  {
    name: "netlink: the kernel does not wait for a server that is gone",
    rule: null,
    file: "src/appliance/attach/nbd-netlink.ts",
    find: "deadConnectionSeconds: 8,",
    replace: "deadConnectionSeconds: 4,",
    test: DRIVER,
  },
  {
    name: "devices: one that was detached while it is open counts as ours",
    rule: null,
    file: "src/appliance/attach/linux-nbd-devices.ts",
    find: 'pid === null || pid === "0" ? null',
    replace: "pid === null ? null",
    test: DRIVER,
  },
];
