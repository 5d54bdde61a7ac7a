/**
 * The wasm code of the kernels.
 *
 *   exported                                inside
 *   copy(destination, source, bytes)        xor<k>(destination, s0 .. s<k-1>, bytes)   k = 2..16
 *   fill(destination, value, bytes)         mismatch<k>(s0 .. s<k-1>, bytes) -> offset k = 1..16
 *   isZero(address, bytes) -> 0 or 1        xorList(destination, count, bytes)         k = 17..64
 *   crc32c(seed, address, bytes) -> crc     mismatchList(count, bytes) -> offset       k = 17..64
 *   xor(destination, count, bytes)
 *   mismatch(count, bytes) -> offset or -1  memory 1: what the crc has there (crc32c-code.ts),
 *                                           behind it the source list: 64 u32 addresses
 *
 * The caller writes the addresses into the source list and calls `xor` or `mismatch`, which hands
 * them to the function for that k; more than 16 are read from the list for each group, by one
 * function for all k, since a function for each would make the module five times as large for
 * arrays that are rare. A turn takes a group of 128 bytes in eight
 * accumulators, source by source: eight independent loads are in flight, and the accumulators stay
 * in registers (with 256 bytes they spill). All sources of a group are read before its first
 * store, so that the destination may be any of them.
 */
import { CRC_MEMORY_BYTES, crcFunction } from "./crc32c-code.ts";
import { CodeBuilder, OP, type WasmFunction } from "./wasm-assembler.ts";

/** Sources at most, and those up to which each number of them has a function of its own. */
export const SOURCES_MAX = 64;
export const FUSED_SOURCES_MAX = 16;
export const GROUP_BYTES = 128;

const VECTOR_BYTES = 16;
const VECTORS_PER_GROUP = GROUP_BYTES / VECTOR_BYTES;

/** Where the source list begins in memory 1, behind what the checksum has there. */
export const SOURCE_LIST_ADDRESS = CRC_MEMORY_BYTES;

export const OWN_MEMORY_BYTES = SOURCE_LIST_ADDRESS + SOURCES_MAX * 4;

/** Leaves the XOR of one group of all sources in the accumulators. */
function xorGroup(body: CodeBuilder, sources: readonly number[], accumulators: readonly number[]) {
  sources.forEach((source, position) => {
    accumulators.forEach((accumulator, vector) => {
      body.get(source).loadVector(vector * VECTOR_BYTES);
      if (position > 0) body.get(accumulator).xorVector();
      body.set(accumulator);
    });
  });
}

function addAccumulators(body: CodeBuilder): number[] {
  return Array.from({ length: VECTORS_PER_GROUP }, () => body.local("v128"));
}

function xorFunction(sourceCount: number): WasmFunction {
  const parameterCount = sourceCount + 2;
  const body = new CodeBuilder(parameterCount);
  const destination = 0;
  const sources = Array.from({ length: sourceCount }, (_, index) => index + 1);
  const remaining = sourceCount + 1;
  const accumulators = addAccumulators(body);
  body.loop(() => {
    xorGroup(body, sources, accumulators);
    accumulators.forEach((accumulator, vector) => {
      body
        .get(destination)
        .get(accumulator)
        .storeVector(vector * VECTOR_BYTES);
    });
    for (const address of [destination, ...sources]) body.advance(address, GROUP_BYTES);
    body.get(remaining).constant(GROUP_BYTES).op(OP.i32Sub).tee(remaining).branchIf(0);
  });
  return { exportName: undefined, parameterCount, returnsI32: false, body };
}

/** Returns `offset` where the XOR of the group is not zero. */
function returnIfAny(body: CodeBuilder, accumulators: readonly number[], offset: number): void {
  accumulators.forEach((accumulator, vector) => {
    body.get(accumulator);
    if (vector > 0) body.orVector();
  });
  body.anyTrue().when(() => {
    body.get(offset).op(OP.return);
  });
}

function mismatchFunction(sourceCount: number): WasmFunction {
  const parameterCount = sourceCount + 1;
  const body = new CodeBuilder(parameterCount);
  const sources = Array.from({ length: sourceCount }, (_, index) => index);
  const bytes = sourceCount;
  const offset = body.local("i32");
  const accumulators = addAccumulators(body);
  body.loop(() => {
    xorGroup(body, sources, accumulators);
    returnIfAny(body, accumulators, offset);
    for (const address of sources) body.advance(address, GROUP_BYTES);
    body.get(offset).constant(GROUP_BYTES).op(OP.i32Add).tee(offset);
    body.get(bytes).op(OP.i32LtU).branchIf(0);
  });
  body.constant(-1);
  return { exportName: undefined, parameterCount, returnsI32: true, body };
}

interface ListWalk {
  /** Parameters of the function. */
  readonly count: number;
  readonly bytes: number;
  readonly accumulators: readonly number[];
  /** A local: how far into the sources the group lies. */
  readonly offset: number;
  /** What is done with the XOR of a group. */
  readonly judge: () => void;
}

/** For each group: the XOR of all listed sources, in a loop over the list. */
function walkList(body: CodeBuilder, { count, bytes, accumulators, offset, judge }: ListWalk) {
  const cursor = body.local("i32");
  const end = body.local("i32");
  const source = body.local("i32");
  body.get(count).constant(2).op(OP.i32Shl).set(end);
  const addressAt = (): void => {
    body.get(cursor).loadOwnI32(SOURCE_LIST_ADDRESS).get(offset).op(OP.i32Add).set(source);
  };
  body.loop(() => {
    body.constant(0).set(cursor);
    addressAt();
    xorGroup(body, [source], accumulators);
    body.constant(4).set(cursor);
    body.loop(() => {
      addressAt();
      accumulators.forEach((accumulator, vector) => {
        body
          .get(source)
          .loadVector(vector * VECTOR_BYTES)
          .get(accumulator)
          .xorVector()
          .set(accumulator);
      });
      body.get(cursor).constant(4).op(OP.i32Add).tee(cursor);
      body.get(end).op(OP.i32LtU).branchIf(0);
    });
    judge();
    body.get(offset).constant(GROUP_BYTES).op(OP.i32Add).tee(offset);
    body.get(bytes).op(OP.i32LtU).branchIf(0);
  });
}

function xorListFunction(): WasmFunction {
  const body = new CodeBuilder(3);
  const offset = body.local("i32");
  const accumulators = addAccumulators(body);
  const judge = (): void => {
    accumulators.forEach((accumulator, vector) => {
      body
        .get(0)
        .get(offset)
        .op(OP.i32Add)
        .get(accumulator)
        .storeVector(vector * VECTOR_BYTES);
    });
  };
  walkList(body, { count: 1, bytes: 2, accumulators, offset, judge });
  return { exportName: undefined, parameterCount: 3, returnsI32: false, body };
}

function mismatchListFunction(): WasmFunction {
  const body = new CodeBuilder(2);
  const offset = body.local("i32");
  const accumulators = addAccumulators(body);
  const judge = (): void => returnIfAny(body, accumulators, offset);
  walkList(body, { count: 0, bytes: 1, accumulators, offset, judge });
  body.constant(-1);
  return { exportName: undefined, parameterCount: 2, returnsI32: true, body };
}

function copyFunction(): WasmFunction {
  const body = new CodeBuilder(3);
  body.get(0).get(1).get(2).copyMemory();
  return { exportName: "copy", parameterCount: 3, returnsI32: false, body };
}

function fillFunction(): WasmFunction {
  const body = new CodeBuilder(3);
  body.get(0).get(1).get(2).fillMemory();
  return { exportName: "fill", parameterCount: 3, returnsI32: false, body };
}

function isZeroFunction(): WasmFunction {
  const body = new CodeBuilder(2);
  const address = 0;
  const remaining = 1;
  const failWhenSet = () => {
    body.when(() => {
      body.constant(0).op(OP.return);
    });
    return body;
  };
  const groupTurn = () => {
    for (let vector = 0; vector < VECTORS_PER_GROUP; vector += 1) {
      body.get(address).loadVector(vector * VECTOR_BYTES);
      if (vector > 0) body.orVector();
    }
    body.anyTrue();
    failWhenSet().advance(address, GROUP_BYTES).advance(remaining, -GROUP_BYTES);
  };
  const byteTurn = () => {
    body.get(address).loadByte(0);
    failWhenSet().advance(address, 1).advance(remaining, -1);
  };
  body.whileAtLeast(remaining, GROUP_BYTES, groupTurn);
  body.whileAtLeast(remaining, 1, byteTurn);
  body.constant(1);
  return { exportName: "isZero", parameterCount: 2, returnsI32: true, body };
}

interface Operands {
  /** Parameters of the dispatching function. */
  readonly before: readonly number[];
  readonly count: number;
  readonly bytes: number;
}

const XOR_OPERANDS: Operands = { before: [0], count: 1, bytes: 2 };
const MISMATCH_OPERANDS: Operands = { before: [], count: 0, bytes: 1 };

/** When the count is `sourceCount`: calls `callee` with the listed sources, returns its result. */
function callForCount(
  body: CodeBuilder,
  { sourceCount, callee, operands }: { sourceCount: number; callee: number; operands: Operands },
) {
  body.get(operands.count).constant(sourceCount).op(OP.i32Eq);
  body.when(() => {
    for (const parameter of operands.before) body.get(parameter);
    for (let source = 0; source < sourceCount; source += 1) {
      body.constant(0).loadOwnI32(SOURCE_LIST_ADDRESS + source * 4);
    }
    body.get(operands.bytes).call(callee).op(OP.return);
  });
}

export function kernelFunctions(): WasmFunction[] {
  const functions = [copyFunction(), fillFunction(), isZeroFunction(), crcFunction()];
  const xor = new CodeBuilder(3);
  const mismatch = new CodeBuilder(2);
  for (let sourceCount = 1; sourceCount <= FUSED_SOURCES_MAX; sourceCount += 1) {
    if (sourceCount > 1) {
      callForCount(xor, { sourceCount, callee: functions.length, operands: XOR_OPERANDS });
      functions.push(xorFunction(sourceCount));
    }
    callForCount(mismatch, { sourceCount, callee: functions.length, operands: MISMATCH_OPERANDS });
    functions.push(mismatchFunction(sourceCount));
  }
  // The caller keeps the count in range.
  xor.get(0).get(1).get(2).call(functions.length);
  functions.push(xorListFunction());
  mismatch.get(0).get(1).call(functions.length);
  functions.push(mismatchListFunction());
  functions.push({ exportName: "xor", parameterCount: 3, returnsI32: false, body: xor });
  functions.push({ exportName: "mismatch", parameterCount: 2, returnsI32: true, body: mismatch });
  return functions;
}
