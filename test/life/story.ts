/**
 * The shortest way to tell a story of the daemon: a machine with disks, a daemon that knows them,
 * and calls that must be taken. What is awaited turns the simulation.
 */
import { expect } from "bun:test";
import { parseUuid } from "../../src/appliance/state/labels.ts";
import type { ArrayStatus, DriveStatus } from "../../src/array/protocol.ts";
import { SeededRandom } from "../../src/base/random.ts";
import type { SocketClient } from "../sim/world/sim-clients.ts";
import { WALL_START_MS } from "../sim/world/simulation.ts";
import { type ApiAnswer, LifeProcess } from "./life-process.ts";
import { type Disk, SimHost } from "./sim-host.ts";
import { SimStateFile } from "./sim-state-file.ts";

export const OPENED_MS = 2_000;

export interface StoryOptions {
  readonly tellsId?: boolean;
  readonly areFiles?: boolean;
  readonly wallAheadMs?: number;
  /** The physical disk that each lies on; absent: one each. */
  readonly spindles?: readonly string[];
}

/** A machine with disks d1, d2, ..., or files of a folder, and a daemon that knows them so. */
export class Story {
  readonly host: SimHost;
  readonly stateFile: SimStateFile;
  readonly disks: Disk[] = [];
  process: LifeProcess;
  private readonly random = new SeededRandom(1);
  private uuidCount = 0;
  /** By which the clock on the wall is ahead of its usual start. */
  private wallAheadMs: number;

  constructor(diskCount: number, options: StoryOptions = {}) {
    this.wallAheadMs = options.wallAheadMs ?? 0;
    this.host = new SimHost({ random: this.random.split() });
    this.stateFile = new SimStateFile({ random: this.random.split() });
    this.process = this.start();
    for (let index = 0; index < diskCount; index += 1) {
      const where = options.areFiles === true ? { fileSystem: this.host.fileSystems[0]! } : {};
      const spindle = options.spindles?.[index];
      const on = spindle === undefined ? {} : { spindle };
      const disk = this.host.addDisk({ ...options, ...where, ...on });
      this.disks.push(disk);
      this.must("POST", "/v1/drives", { name: `d${index + 1}`, path: disk.path });
    }
  }

  ask(method: string, path: string, body?: unknown): ApiAnswer {
    return this.process.ask(method, path, body);
  }

  must(method: string, path: string, body?: unknown): ApiAnswer["body"] {
    const answer = this.ask(method, path, body);
    expect({ call: `${method} ${path}`, isDone: answer.status < 300, ...answer }).toMatchObject({
      isDone: true,
    });
    return answer.body;
  }

  create(name: string, drives: string, rest: object = {}): ArrayStatus {
    const body = { name, drives: drives.split(" "), chunkKiB: 8, sizeKiB: 32, ...rest };
    const created = this.must("POST", "/v1/arrays", body);
    this.process.world.simulation.runFor(1_000);
    return created;
  }

  /** All of it are these bytes, durably. */
  fill(exportName: string, byte: number): void {
    const client = this.connect(exportName);
    const { world } = this.process;
    expect(world.run(client.write(0, new Uint8Array(4096).fill(byte)))).toBe(0);
    expect(world.run(client.flush())).toBe(0);
    client.transport.cutAfter(0);
    world.simulation.runFor(500);
  }

  firstByte(exportName: string): number | undefined {
    const client = this.connect(exportName);
    const { status, data } = this.process.world.run(client.read(0, 512));
    client.transport.cutAfter(0);
    return status === 0 ? data[0] : undefined;
  }

  connect(exportName: string): SocketClient {
    const { world } = this.process;
    const dialled = world.run(world.dial(exportName));
    if (!dialled.ok) throw new Error(JSON.stringify(dialled.error));
    return dialled.value;
  }

  arrays(): string[] {
    const arrays = this.must("GET", "/v1/arrays") as ArrayStatus[];
    return arrays.map(({ name, state }) => `${name} ${state}`);
  }

  drive(name: string): DriveStatus {
    return this.must("GET", `/v1/drives/${name}`) as DriveStatus;
  }

  /** Another disk, which the daemon is told about. */
  addDrive(options: Parameters<SimHost["addDisk"]>[0] = {}): string {
    const disk = this.host.addDisk(options);
    this.disks.push(disk);
    const name = `d${this.disks.length}`;
    this.must("POST", "/v1/drives", { name, path: disk.path });
    return name;
  }

  /** Kinds of events since the first, of those that are asked for. */
  events(...kinds: readonly string[]): string[] {
    const { process } = this;
    const events = process.appliance.events.since(0, 10_000);
    return events.map(({ kind }) => kind as string).filter((kind) => kinds.includes(kind));
  }

  restart(how: "SIGTERM" | "SIGKILL" | "power cut", meanwhile: () => void = () => {}): void {
    if (how === "SIGTERM") expect(this.process.stop()).toBe(true);
    else if (how === "SIGKILL") this.process.kill();
    else this.process.cutPower("random");
    meanwhile();
    this.process = this.start();
    this.run(OPENED_MS);
  }

  get wallMs(): number {
    return this.process.world.simulation.wallMs();
  }

  /** The daemon ends, and starts again after so long by the clock on the wall. */
  away(how: "SIGTERM" | "SIGKILL", forMs: number): void {
    const { simulation } = this.process.world;
    this.restart(how, () => {
      this.wallAheadMs = simulation.wallMs() - WALL_START_MS + forMs;
    });
  }

  run(forMs: number): void {
    this.process.world.simulation.runFor(forMs);
  }

  private start(): LifeProcess {
    const { host, stateFile } = this;
    const newUuid = (): string => {
      this.uuidCount += 1;
      return parseUuid(this.uuidCount.toString(16).padStart(8, "0").repeat(4))!;
    };
    const random = this.random.split();
    return new LifeProcess({ host, stateFile, random, newUuid, wallAheadMs: this.wallAheadMs });
  }
}
