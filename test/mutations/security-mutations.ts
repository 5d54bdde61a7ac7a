/** Mutations of who may call and who may open an export. */
import type { Mutation } from "./mutations.ts";

export const SECURITY_MUTATIONS: readonly Mutation[] = [
  {
    name: "a call over the Unix socket says nothing of who made it",
    rule: null,
    file: "src/api/http-front.ts",
    find: "isKnown ? unixCallerOf(socket)",
    replace: 'isKnown ? "unix"',
    test: ["./test/unit/api/unix-caller.test.ts"],
  },
  {
    name: "the trail of calls has no name of the token",
    rule: null,
    file: "src/api/app.ts",
    find: ", token ${" + "login.value.name}`;",
    replace: "`;\nvoid login.value.name;",
    test: ["./test/unit/api/call-events.test.ts"],
  },
  {
    name: "the name of a token is what it opens with",
    rule: null,
    file: "src/api/auth.ts",
    find: "timingSafeEqual(sha256(token), digest) &&",
    replace: "timingSafeEqual(sha256(name), digest) &&",
    test: ["./test/unit/api/auth.test.ts"],
  },
  {
    name: "wrong tokens are not counted",
    rule: null,
    file: "src/api/auth.ts",
    find: "    limit.failed(address);\n",
    replace: "",
    test: ["./test/unit/api/login-limit.test.ts"],
  },
  {
    name: "a token is looked at before the limit",
    rule: null,
    file: "src/api/auth.ts",
    find: "if (waitSeconds > 0) return",
    replace:
      'if (waitSeconds > 0 && guard.grantOf(request.headers.get("authorization")?.slice(7) ?? "") === null) return',
    test: ["./test/unit/api/login-limit.test.ts"],
  },
  {
    name: "calls without a token count as wrong ones",
    rule: null,
    file: "src/api/auth.ts",
    find: 'if (token === undefined) return err({ kind: "unauthorized" });',
    replace:
      'if (token === undefined) {\n    limit.failed(address);\n    return err({ kind: "unauthorized" });\n  }',
    test: ["./test/unit/api/login-limit.test.ts"],
  },
  {
    name: "addresses that failed are remembered without end",
    rule: null,
    file: "src/api/login-limit.ts",
    find: "if (this.failures.size > ADDRESSES_MAX) this.failures.delete(longestAgo);",
    replace: "void longestAgo;",
    test: ["./test/unit/api/login-limit.test.ts"],
  },
  {
    name: "each address of an IPv6 network has tries of its own",
    rule: null,
    file: "src/api/login-limit.ts",
    find: "  failed(address: string): void {\n    const key = peerOfAddress(address);",
    replace: "  failed(address: string): void {\n    const key = address;",
    test: ["./test/unit/api/login-limit.test.ts"],
  },
];
