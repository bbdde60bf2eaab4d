// Makes solc-js about twice as fast; what it compiles stays the same, byte for byte.
//
// soljson.js is C++ built without WebAssembly's own exceptions: each call that may throw leaves WebAssembly for a
// function in JavaScript, `invoke_SIGNATURE(index, ...arguments)`, which looks `index` up in the function table, calls
// it in a try block and notes a C++ exception (a thrown number) with `_setThrew`. Half of the compiler's time goes into
// that look-up and into crossing the border twice. The functions made here do the same inside WebAssembly. They stand
// in a module of their own, which has to exist before the compiler and its table do: hence a mirror of that table.
"use strict";

const I32 = 0x7f;
const TYPES = { i: I32, d: 0x7c }; // by letter of a signature; 64-bit integers come in halves and stay in JavaScript
const ZEROES = { i: [0x41, 0], d: [0x44, ...new Array(8).fill(0)] };
const MOVABLE = /^invoke_[vid][id]*$/;
const THROWERS = /^___(cxa_throw|cxa_rethrow|resumeException)$/;
const HELPERS = ["stackSave", "stackRestore", "_setThrew"]; // of the compiler: the second table, in this order
const HELPER_TYPES = [[0x60, 0, 1, I32], [0x60, 1, I32, 0], [0x60, 2, I32, I32, 0]];

function unsigned(value) {
  const bytes = [];
  for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128);
  return [...bytes, value];
}
const vector = (items) => [...unsigned(items.length), ...items.flat()];
const section = (id, items) => {
  const body = vector(items);
  return [id, ...unsigned(body.length), ...body];
};
const name = (text) => vector([...Buffer.from(text)]);
const functionType = (parameters, result) => [0x60, ...vector(parameters), ...vector(result)];
const callIndirect = (type, table) => [0x11, ...unsigned(type), table];
const callHelper = (number) => [0x41, number, ...callIndirect(number, 1)];
const getLocal = (local) => [0x20, ...unsigned(local)];

/** Code of one function: local 0 is the index, then come the arguments, and last the C++ stack's pointer. */
function bodyOf(signature, innerType) {
  const count = signature.length - 1;
  const stackPointer = count + 1;
  const code = [
    ...callHelper(0), 0x21, ...unsigned(stackPointer), // stackPointer = stackSave()
    0x06, TYPES[signature[0]] ?? 0x40, // try
    ...Array.from({ length: count }, (_, i) => getLocal(i + 1)).flat(),
    ...getLocal(0), ...callIndirect(innerType, 0),
    0x19, // catch_all
    ...getLocal(stackPointer), ...callHelper(1), // stackRestore(stackPointer)
    0x23, 0, 0x45, 0x04, 0x40, 0x09, 1, 0x0b, // if (!isCpp) rethrow
    0x41, 0, 0x24, 0, // isCpp = 0
    0x41, 1, 0x41, 0, ...callHelper(2), // _setThrew(1, 0)
    ...(ZEROES[signature[0]] ?? []),
    0x0b, 0x0b, // end of try, end
  ];
  return vector([1, 1, I32, ...code]); // one local of type i32
}

/** A module that exports `invoke_SIGNATURE` for each signature. */
function assemble(signatures) {
  const types = [...HELPER_TYPES];
  const bodies = signatures.map((signature) => {
    const parameters = [...signature.slice(1)].map((letter) => TYPES[letter]);
    const result = signature[0] === "v" ? [] : [TYPES[signature[0]]];
    types.push(functionType(parameters, result), functionType([I32, ...parameters], result));
    return bodyOf(signature, types.length - 2);
  });
  const imports = [
    [...name("env"), ...name("mirror"), 1, 0x70, 0, 0],
    [...name("env"), ...name("helpers"), 1, 0x70, 0, HELPERS.length],
    [...name("env"), ...name("isCpp"), 3, I32, 1],
  ];
  const functions = signatures.map((_, i) => unsigned(HELPER_TYPES.length + 2 * i + 1));
  const exported = signatures.map((signature, i) => [...name(`invoke_${signature}`), 0, ...unsigned(i)]);
  return new WebAssembly.Module(new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, // "\0asm", version 1
    ...section(1, types), ...section(2, imports), ...section(3, functions), ...section(7, exported), ...section(10, bodies),
  ]));
}

/** The same thrower, but it says before whether what it throws is a C++ exception. */
function announce(thrower, isCpp) {
  return (...parameters) => {
    try {
      return thrower(...parameters);
    } catch (error) {
      isCpp.value = typeof error === "number" ? 1 : 0;
      throw error;
    }
  };
}

/** Keep `mirror` equal to the compiler's table, also when a callback is added to that one later. */
function follow(table, mirror) {
  mirror.grow(table.length);
  for (let i = 0; i < table.length; ++i) mirror.set(i, table.get(i));
  const set = table.set;
  table.set = (index, entry) => {
    set.call(table, index, entry);
    if (index >= mirror.length) mirror.grow(index + 1 - mirror.length);
    mirror.set(index, table.get(index));
  };
}

/**
 * Let the next compiler that is instantiated have such functions.
 * @param source text of soljson.js; it knows under which short names the module exports the helpers
 */
function speedUp(source) {
  const shortNames = HELPERS.map((helper) => source.match(new RegExp(`Module\\["${helper}"\\] = asm\\["(\\w+)"\\]`))[1]);
  const Instance = WebAssembly.Instance;
  WebAssembly.Instance = function (module, imports) {
    WebAssembly.Instance = Instance;
    const entries = Object.entries(imports.a);
    const movable = entries.filter(([, value]) => MOVABLE.test(value.name));
    const mirror = new WebAssembly.Table({ element: "anyfunc", initial: 0 });
    const helpers = new WebAssembly.Table({ element: "anyfunc", initial: HELPERS.length });
    const isCpp = new WebAssembly.Global({ value: "i32", mutable: true }, 0);
    const moved = new Instance(assemble(movable.map(([, value]) => value.name.slice("invoke_".length))), {
      env: { mirror, helpers, isCpp },
    });
    const a = Object.fromEntries(entries.map(([key, value]) => [
      key, moved.exports[value.name] ?? (THROWERS.test(value.name) ? announce(value, isCpp) : value),
    ]));
    const instance = new Instance(module, { a });
    follow(Object.values(instance.exports).find((value) => value instanceof WebAssembly.Table), mirror);
    shortNames.forEach((shortName, i) => helpers.set(i, instance.exports[shortName]));
    return instance;
  };
}

module.exports = { speedUp };
