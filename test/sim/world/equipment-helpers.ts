/** One simulated drive, driven by hand: for the tests of the simulator itself. */
import { CONTROL_BYTES } from "../../../src/base/memory.ts";
import { IoTable, Op, type OpCode } from "../../../src/reactor/io-table.ts";
import { testMemory } from "../../helpers/memory.ts";
import { DeviceTrace } from "./device-trace.ts";
import { blankImage, type DeviceImage, readImage, type SectorBytes } from "./media.ts";
import { SimDevice } from "./sim-device.ts";
import { Simulation } from "./simulation.ts";

export const ROW = 4096;
const DRIVE_BYTES = 1024 * 1024;
const SLOT_BYTES = 65_536;

export class HandDrive {
  readonly simulation: Simulation;
  readonly table = new IoTable(32);
  readonly memory = testMemory();
  readonly trace = new DeviceTrace();
  readonly device: SimDevice;
  readonly results = new Map<number, number>();

  constructor(
    options: {
      seed?: number;
      sectorBytes?: SectorBytes;
      image?: DeviceImage;
      hasCache?: boolean;
    } = {},
  ) {
    const { seed = 1, sectorBytes = 512, hasCache = true } = options;
    this.simulation = new Simulation({ seed });
    this.device = SimDevice.fromImage(
      options.image ?? blankImage({ name: "drive", sizeBytes: DRIVE_BYTES, sectorBytes }),
      {
        simulation: this.simulation,
        table: this.table,
        memory: this.memory,
        trace: this.trace,
        hasCache,
      },
    );
    this.device.onComplete = (request, result) => {
      this.results.set(request, result);
      this.table.free(request);
    };
  }

  /** Where the buffer of a request lies. */
  addressOf(request: number): number {
    return CONTROL_BYTES + request * SLOT_BYTES;
  }

  /** Submits; a write writes `fill` everywhere. The answer is the request. */
  submit(op: OpCode, options: { offset?: number; bytes?: number; fill?: number; fua?: boolean }) {
    const { offset = 0, bytes = ROW, fill = 0, fua = false } = options;
    const { table } = this;
    const request = table.allocate();
    table.op[request] = op;
    table.offset[request] = offset;
    table.bytes[request] = bytes;
    table.isFua[request] = fua ? 1 : 0;
    table.address[request] = this.addressOf(request);
    if (op === Op.write) {
      this.memory.bytes.fill(fill, this.addressOf(request), this.addressOf(request) + bytes);
    }
    this.results.delete(request);
    this.device.submit(request);
    return request;
  }

  /** Turns until a request has its answer. */
  finish(request: number): number {
    this.simulation.runUntil(() => this.results.has(request), { limitMs: 60_000 });
    return this.results.get(request)!;
  }

  run(op: OpCode, options: { offset?: number; bytes?: number; fill?: number; fua?: boolean }) {
    return this.finish(this.submit(op, options));
  }

  write(offset: number, fill: number, options: { bytes?: number; fua?: boolean } = {}): number {
    return this.run(Op.write, { offset, fill, ...options });
  }

  flush(): number {
    return this.run(Op.flush, {});
  }

  /** The bytes of a row as it reads now. */
  read(offset: number): Uint8Array {
    const request = this.submit(Op.read, { offset });
    const result = this.finish(request);
    if (result !== ROW) throw new Error(`the read answers ${result}`);
    return this.memory.bytes.slice(this.addressOf(request), this.addressOf(request) + ROW);
  }

  /** The value that all bytes of a row of an image have; -1 where they differ. */
  static valueIn(image: DeviceImage, offset: number, bytes = ROW): number {
    const content = readImage(image, offset, bytes);
    return content.every((byte) => byte === content[0]) ? content[0]! : -1;
  }
}
