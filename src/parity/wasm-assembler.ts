/**
 * Assembles a WebAssembly binary module: the encoder only, it knows no kernel.
 *
 * Layout (WebAssembly core specification, "Binary Format"), every section as id, size, payload:
 *
 *   magic, version | 1 types | 2 imports | 3 functions | 5 memories | 7 exports | 10 code | 11 data
 *
 * Memory 0 is the imported shared memory, `env.memory`. Memory 1 is the module's own, exported as
 * `own`: no stray write to the pool can reach what it holds. Function n has type n: sharing equal
 * types would save a few bytes and cost a table.
 */
import { assert } from "../base/assert.ts";

export type ValueType = "i32" | "v128";

const VALUE_TYPE: Readonly<Record<ValueType, number>> = { i32: 0x7f, v128: 0x7b };

/** Opcodes without an immediate that the kernels use. */
export const OP = {
  unreachable: 0x00,
  end: 0x0b,
  return: 0x0f,
  i32Eq: 0x46,
  i32LtU: 0x49,
  i32GeU: 0x4f,
  i32Add: 0x6a,
  i32Sub: 0x6b,
  i32And: 0x71,
  i32Xor: 0x73,
  i32Shl: 0x74,
  i32ShrU: 0x76,
} as const;

const SECTION = {
  types: 1,
  imports: 2,
  functions: 3,
  memories: 5,
  exports: 7,
  code: 10,
  data: 11,
} as const;

const EMPTY_BLOCK = 0x40;
const SIMD_PREFIX = 0xfd;
const BULK_PREFIX = 0xfc;
/** Bit 6 of a memory argument's alignment says that a memory index follows. */
const HAS_MEMORY_INDEX = 0x40;
const SHARED_WITH_MAXIMUM = 0x03;

function unsigned(value: number): number[] {
  assert(Number.isInteger(value) && value >= 0 && value < 2 ** 32, "an unsigned 32-bit integer");
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return bytes;
}

function signed(value: number): number[] {
  assert((value | 0) === value, "a signed 32-bit integer");
  const bytes: number[] = [];
  let rest = value;
  // The last group is the one whose bit 6 already is the sign of all that remains.
  while (rest < -0x40 || rest > 0x3f) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>= 7;
  }
  bytes.push(rest & 0x7f);
  return bytes;
}

function name(text: string): number[] {
  return [...unsigned(text.length), ...Array.from(text, (letter) => letter.charCodeAt(0))];
}

function vector(items: readonly (readonly number[])[]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

function section(id: number, payload: readonly number[]): number[] {
  return [id, ...unsigned(payload.length), ...payload];
}

/** Emits the instructions of one function body. */
export class CodeBuilder {
  readonly code: number[] = [];
  readonly locals: ValueType[] = [];
  private readonly parameterCount: number;

  constructor(parameterCount: number) {
    this.parameterCount = parameterCount;
  }

  /** Declares a local, which starts as 0, and gives its index. */
  local(type: ValueType): number {
    this.locals.push(type);
    return this.parameterCount + this.locals.length - 1;
  }

  op(opcode: number): this {
    this.code.push(opcode);
    return this;
  }

  get(local: number): this {
    this.code.push(0x20, ...unsigned(local));
    return this;
  }

  set(local: number): this {
    this.code.push(0x21, ...unsigned(local));
    return this;
  }

  tee(local: number): this {
    this.code.push(0x22, ...unsigned(local));
    return this;
  }

  constant(value: number): this {
    this.code.push(0x41, ...signed(value));
    return this;
  }

  /** `local += value` */
  advance(local: number, value: number): this {
    return this.get(local).constant(value).op(OP.i32Add).set(local);
  }

  /** A loop: `branchIf(0)` inside it starts the next turn. */
  loop(body: () => void): this {
    this.code.push(0x03, EMPTY_BLOCK);
    body();
    return this.op(OP.end);
  }

  /** Runs `body` when the popped i32 is not 0. */
  when(body: () => void): this {
    this.code.push(0x04, EMPTY_BLOCK);
    body();
    return this.op(OP.end);
  }

  /** Runs `turn`, which takes off `remaining` what it has done, while that is at least `least`. */
  whileAtLeast(remaining: number, least: number, turn: () => void): this {
    return this.loop(() => {
      this.get(remaining).constant(least).op(OP.i32GeU);
      this.when(() => {
        turn();
        this.constant(1).branchIf(1);
      });
    });
  }

  branchIf(depth: number): this {
    this.code.push(0x0d, ...unsigned(depth));
    return this;
  }

  /** Calls the function that stands at `index` in the list of functions. */
  call(index: number): this {
    this.code.push(0x10, ...unsigned(index));
    return this;
  }

  loadI32(offset: number): this {
    this.code.push(0x28, 0, ...unsigned(offset));
    return this;
  }

  loadByte(offset: number): this {
    this.code.push(0x2d, 0, ...unsigned(offset));
    return this;
  }

  /** Loads an i32 from memory 1. */
  loadOwnI32(offset: number): this {
    this.code.push(0x28, 2 | HAS_MEMORY_INDEX, 1, ...unsigned(offset));
    return this;
  }

  loadVector(offset: number): this {
    return this.simd(0x00).immediates(0, offset);
  }

  storeVector(offset: number): this {
    return this.simd(0x0b).immediates(0, offset);
  }

  /** Loads a vector from memory 1. */
  loadOwnVector(offset: number): this {
    this.simd(0x00).code.push(HAS_MEMORY_INDEX, 1, ...unsigned(offset));
    return this;
  }

  /** Stores a vector in memory 1. */
  storeOwnVector(offset: number): this {
    this.simd(0x0b).code.push(HAS_MEMORY_INDEX, 1, ...unsigned(offset));
    return this;
  }

  /** Stores an i32 in memory 1. */
  storeOwnI32(offset: number): this {
    this.code.push(0x36, HAS_MEMORY_INDEX, 1, ...unsigned(offset));
    return this;
  }

  xorVector(): this {
    return this.simd(0x51);
  }

  orVector(): this {
    return this.simd(0x50);
  }

  /** Pops a vector, pushes 1 when any of its bits is set. */
  anyTrue(): this {
    return this.simd(0x53);
  }

  /** Pops bytes, source, destination. */
  copyMemory(): this {
    this.code.push(BULK_PREFIX, 10, 0, 0);
    return this;
  }

  /** Pops bytes, value, destination. */
  fillMemory(): this {
    this.code.push(BULK_PREFIX, 11, 0);
    return this;
  }

  /** As `copyMemory`, within memory 1. */
  copyOwnMemory(): this {
    this.code.push(BULK_PREFIX, 10, 1, 1);
    return this;
  }

  /** As `fillMemory`, in memory 1. */
  fillOwnMemory(): this {
    this.code.push(BULK_PREFIX, 11, 1);
    return this;
  }

  private simd(opcode: number): this {
    this.code.push(SIMD_PREFIX, ...unsigned(opcode));
    return this;
  }

  private immediates(alignment: number, offset: number): this {
    this.code.push(alignment, ...unsigned(offset));
    return this;
  }
}

/** A function whose parameters are i32. */
export interface WasmFunction {
  /** The name under which it is exported, or undefined. */
  readonly exportName: string | undefined;
  readonly parameterCount: number;
  readonly returnsI32: boolean;
  readonly body: CodeBuilder;
}

export interface WasmModuleParts {
  /** Initial and maximum size of the imported memory. */
  readonly importedPages: number;
  /** Initial and maximum size of memory 1. */
  readonly ownPages: number;
  /** What memory 1 holds from its address 0 on. */
  readonly ownBytes: Uint8Array;
  readonly functions: readonly WasmFunction[];
}

function typeOf({ parameterCount, returnsI32 }: WasmFunction): number[] {
  const parameters = Array.from({ length: parameterCount }, () => [VALUE_TYPE.i32]);
  return [0x60, ...vector(parameters), ...vector(returnsI32 ? [[VALUE_TYPE.i32]] : [])];
}

function bodyOf({ body }: WasmFunction): number[] {
  const locals = vector(body.locals.map((type) => [1, VALUE_TYPE[type]]));
  const code = [...locals, ...body.code, OP.end];
  return [...unsigned(code.length), ...code];
}

/** The bytes of the module. */
export function assembleModule(parts: WasmModuleParts): Uint8Array<ArrayBuffer> {
  const { importedPages, ownPages, ownBytes, functions } = parts;
  const sharedLimits = [
    SHARED_WITH_MAXIMUM,
    ...unsigned(importedPages),
    ...unsigned(importedPages),
  ];
  const ownLimits = [0x01, ...unsigned(ownPages), ...unsigned(ownPages)];
  const activeInMemory1 = [2, 1, 0x41, ...signed(0), OP.end];
  const exported = functions.flatMap(({ exportName }, index) =>
    exportName === undefined ? [] : [[...name(exportName), 0, ...unsigned(index)]],
  );
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(SECTION.types, vector(functions.map(typeOf))),
    ...section(SECTION.imports, vector([[...name("env"), ...name("memory"), 2, ...sharedLimits]])),
    ...section(SECTION.functions, vector(functions.map((_, index) => unsigned(index)))),
    ...section(SECTION.memories, vector([ownLimits])),
    ...section(SECTION.exports, vector([...exported, [...name("own"), 2, 1]])),
    ...section(SECTION.code, vector(functions.map(bodyOf))),
    ...section(
      SECTION.data,
      vector([[...activeInMemory1, ...unsigned(ownBytes.length), ...ownBytes]]),
    ),
  ]);
}
