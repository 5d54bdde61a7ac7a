/**
 * Goal: 64 connections that read, write, zero, trim, flush and ask at once, wherever they like and
 * over each other, never see bytes that no order of those requests explains.
 *
 * Method: the compiled daemon with one array, in which a member fails and another one is rebuilt
 * under load. Each connection has one request under way; helpers/overlap-model.ts judges every
 * read, and every extent that is called zero. After each round all is quiet: then one connection
 * reads the area, and all later readers must see the same. At the end everything outside of the
 * area is untouched, and parity fits. `SEED=…` repeats the requests, not their timing.
 */
import { expect, test } from "bun:test";
import { EOPNOTSUPP } from "../../src/base/errno.ts";
import { fillRandom, nextBelow, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { Command, CommandFlag, OptionCode, OptionReply } from "../../src/nbd/wire-format.ts";
import { Daemon, makeFiles } from "../helpers/daemon.ts";
import { needs } from "../helpers/needs.ts";
import { OverlapModel } from "../helpers/overlap-model.ts";
import { contextQuery, RawNbd, type RawReply, type RawRequest } from "../helpers/raw-nbd.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io");
const SEED = Number(process.env["SEED"] ?? 64);
const CONNECTIONS = 64;
const ROUNDS = 12;
const FAILING_ROUND = 3;
const REBUILDING_ROUND = 6;
const REBUILT_ROUND = 9;
const REQUESTS_PER_ROUND = 8;
const CHUNK_KIB = 32;
/** Of four members. */
const STRIPE_BYTES = 3 * CHUNK_KIB * KIB;
const MEMBER_BYTES = 8 * MIB;
/** Where all this happens: aligned to nothing. */
const AREA = { offset: 7 * MIB - 777, bytes: 3 * MIB + 333 };
const ZERO_BIT = 2;
const { fua, noHole, fastZero, requestOne, dontFragment } = CommandFlag;

interface Range {
  /** In the area. */
  readonly from: number;
  readonly to: number;
}

function randomRange(random: SeededRandom): Range {
  const isLong = nextBelow(random, 6) === 0;
  let bytes = 1 + nextBelow(random, isLong ? 400 * KIB : 9 * KIB);
  let from = nextBelow(random, AREA.bytes - bytes);
  if (nextBelow(random, 4) === 0) {
    // On the borders of the rows of the array.
    bytes = Math.ceil(bytes / 4096) * 4096;
    from = Math.max(0, from - ((AREA.offset + from) % 4096));
  }
  return { from, to: Math.min(from + bytes, AREA.bytes) };
}

class ModelClient {
  private readonly raw: RawNbd;
  private readonly model: OverlapModel;
  private readonly random: SeededRandom;

  private constructor(raw: RawNbd, model: OverlapModel, random: SeededRandom) {
    this.raw = raw;
    this.model = model;
    this.random = random;
  }

  static async open(
    path: string,
    { model, random }: { model: OverlapModel; random: SeededRandom },
  ): Promise<ModelClient> {
    const raw = await RawNbd.greeted({ path });
    await raw.option(OptionCode.structuredReply);
    const query = contextQuery("disk", ["base:allocation"]);
    const answers = await raw.optionTypes(OptionCode.setMetaContext, query);
    expect(answers).toEqual([OptionReply.metaContext, OptionReply.ack]);
    await raw.go("disk");
    return new ModelClient(raw, model, random);
  }

  async run(count: number): Promise<void> {
    for (let done = 0; done < count; done += 1) await this.one();
  }

  async read({ from, to }: Range, flags = 0): Promise<Uint8Array> {
    const startedAt = this.model.tick();
    const { error, data } = await this.ask({ command: Command.read, flags }, { from, to });
    expect([error, data.length]).toEqual([0, to - from]);
    const wrong = this.model.unexplained({ from, to, startedAt }, data);
    if (wrong >= 0) throw new Error(`byte ${wrong} of the area was never ${data[wrong - from]}`);
    return data;
  }

  close(): void {
    this.raw.request({ command: Command.disconnect });
    this.raw.close();
  }

  private async one(): Promise<void> {
    const { random } = this;
    const range = randomRange(random);
    const flags = nextBelow(random, 4) === 0 ? fua : 0;
    switch (nextBelow(random, 12)) {
      case 0:
        return this.expectOk({ command: Command.flush });
      case 1:
        return this.expectOk({ command: Command.cache, flags }, range);
      case 2:
        return this.blockStatus(range);
      case 3:
        return this.trim(range, flags);
      case 4:
      case 5:
        return this.writeZeroes(range, flags);
      case 6:
      case 7:
      case 8:
        return this.write(range, flags);
      default:
        await this.read(range, nextBelow(random, 2) === 0 ? dontFragment : flags);
    }
  }

  private async write({ from, to }: Range, flags: number): Promise<void> {
    const data = new Uint8Array(to - from);
    fillRandom(this.random, data);
    const change = this.model.begin({ from, to }, data);
    const { error } = await this.ask({ command: Command.write, flags }, { from, to }, data);
    expect(error).toBe(0);
    this.model.end(change);
  }

  private async writeZeroes(range: Range, wanted: number): Promise<void> {
    const kind = nextBelow(this.random, 4);
    const isFast = kind === 0;
    const flags = wanted | (isFast ? fastZero : kind === 1 ? noHole : 0);
    const change = this.model.begin(range, null);
    const { error } = await this.ask({ command: Command.writeZeroes, flags }, range);
    if (isFast && error === EOPNOTSUPP) {
      this.model.undo(change);
      return;
    }
    expect(error).toBe(0);
    this.model.end(change);
  }

  /** Only whole stripes of the array may become zeros. */
  private async trim(range: Range, flags: number): Promise<void> {
    const first = Math.ceil((AREA.offset + range.from) / STRIPE_BYTES) * STRIPE_BYTES;
    const end = Math.floor((AREA.offset + range.to) / STRIPE_BYTES) * STRIPE_BYTES;
    const inner = { from: first - AREA.offset, to: Math.max(first, end) - AREA.offset };
    const change = this.model.begin(inner, null, true);
    await this.expectOk({ command: Command.trim, flags }, range);
    this.model.end(change);
  }

  private async blockStatus({ from, to }: Range): Promise<void> {
    const isOne = nextBelow(this.random, 3) === 0;
    const startedAt = this.model.tick();
    const request = { command: Command.blockStatus, flags: isOne ? requestOne : 0 };
    const { error, data } = await this.ask(request, { from, to });
    expect(error).toBe(0);
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    let at = from;
    for (let index = 4; index < data.length; index += 8) {
      const [bytes, state] = [view.getUint32(index), view.getUint32(index + 4)];
      expect(bytes).toBeGreaterThan(0);
      if ((state & ZERO_BIT) !== 0) {
        const extent = { from: at, to: at + bytes, startedAt };
        expect(this.model.unexplained(extent, null)).toBe(-1);
      }
      at += bytes;
    }
    expect(at).toBeLessThanOrEqual(to);
    if (isOne) expect(data.length).toBe(12);
    else expect(at).toBe(to);
  }

  private async expectOk(
    request: RawRequest,
    range: Range = { from: -AREA.offset, to: -AREA.offset },
  ) {
    expect((await this.ask(request, range)).error).toBe(0);
  }

  private ask(request: RawRequest, { from, to }: Range, payload?: Uint8Array): Promise<RawReply> {
    this.raw.request({ ...request, offset: AREA.offset + from, bytes: to - from }, payload);
    return this.raw.anyReply();
  }
}

const ARRAY = "/v1/arrays/disk";

async function startDaemon(): Promise<Daemon> {
  const folder = makeTempDir("model");
  const daemon = await Daemon.start(folder);
  const drives = await daemon.addDrives(makeFiles(folder, 5, MEMBER_BYTES));
  const body = { name: "disk", drives: drives.slice(0, 4), chunkKiB: CHUNK_KIB };
  await daemon.must("POST", "/v1/arrays", body);
  await daemon.must("PUT", "/v1/exports/disk", { array: "disk" });
  return daemon;
}

/** What becomes of the array in the middle of some rounds. The rebuild takes several of them. */
async function happening(daemon: Daemon, round: number): Promise<void> {
  if (round === FAILING_ROUND) {
    await daemon.must("POST", `${ARRAY}/members/drive2/fail`, {});
  } else if (round === REBUILDING_ROUND) {
    await daemon.must("DELETE", `${ARRAY}/members/drive2`);
    await daemon.must("PATCH", ARRAY, { syncSpeedMin: 64 * KIB, syncSpeedMax: 64 * KIB });
    await daemon.must("POST", `${ARRAY}/members`, { drive: "drive4" });
  } else if (round === REBUILT_ROUND) {
    expect((await daemon.must("GET", ARRAY)).sync.action).toBe("rebuild");
    await daemon.must("PATCH", ARRAY, { syncSpeedMin: 4096 * MIB, syncSpeedMax: 4096 * MIB });
  }
}

async function readAll(raw: RawNbd, offset: number, bytes: number): Promise<Uint8Array> {
  raw.request({ command: Command.read, offset, bytes });
  const { error, data } = await raw.reply(bytes);
  expect(error).toBe(0);
  return data;
}

test.skipIf(!CAN_RUN)(
  "nbd: 64 connections, any request over any other, a member lost and rebuilt: all is explained [needs libaio, direct-io]",
  async () => {
    console.log(`SEED=${SEED} bun test test/interop/nbd-model.test.ts`);
    const daemon = await startDaemon();
    const model = new OverlapModel(AREA.bytes);
    const random = new SeededRandom(SEED);
    const clients: ModelClient[] = [];
    for (let index = 0; index < CONNECTIONS; index += 1) {
      clients.push(await ModelClient.open(daemon.nbdSocket, { model, random: random.split() }));
    }
    const all = { from: 0, to: AREA.bytes };
    for (let round = 0; round < ROUNDS; round += 1) {
      const load = clients.map((client) => client.run(REQUESTS_PER_ROUND));
      await Promise.all([...load, happening(daemon, round)]);
      model.settle(await clients[round]!.read(all));
      await clients[round + 1]!.read(all);
    }
    for (const client of clients) client.close();

    expect((await daemon.settle("disk")).degraded).toBe(0);
    const raw = await RawNbd.greeted({ path: daemon.nbdSocket });
    const { sizeBytes } = await raw.go("disk");
    const before = await readAll(raw, 0, AREA.offset);
    const end = AREA.offset + AREA.bytes;
    const behind = await readAll(raw, end, sizeBytes - end);
    for (const untouched of [before, behind]) {
      expect(untouched.every((byte) => byte === 0)).toBe(true);
    }
    raw.close();
    const job = await daemon.must("POST", `${ARRAY}/scrub?wait=60`, {});
    expect(job).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
    expect(await daemon.stop()).toBe(0);
  },
);
