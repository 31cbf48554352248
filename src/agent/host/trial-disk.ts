// A boot sector that does in a hundred instructions what every kernel does first, and then powers the machine off.

import { Buffer } from 'node:buffer'

/** x86: real mode, paging, long mode, an exception, ring 3, a system call. Powers off through QEMU's q35 ACPI port. */
const code = [
  // real mode: segments and a stack
  'fa31c08ed88ec08ed0bc0070',
  // three cleared pages at 64 KiB
  'b800108ec031ff6631c0b9000c66f3ab',
  // page tables: 2 MiB, one to one, open to ring 3
  '2666c7060000071001002666c7060010072001002666c706002087000000',
  // GDT and CR3
  '660f0116507d66b8000001000f22d8',
  // CR4: PSE, PAE, PGE, SSE
  '66b8b00600006625b00600000f22e0',
  // EFER: long mode, syscall
  '66b9800000c066b8010100006631d20f30',
  // CR0: paging, write protection, protected mode
  '66b8330001800f22c0',
  // far jump into 64-bit code
  '66ea7a7c00000800',
  // stack of ring 0
  '66b810008ed0bc00700000',
  // STAR and LSTAR: where a system call enters
  'b9810000c031c0ba080013000f30ffc1b81b7d000031d20f30',
  // IDT with a handler of invalid opcodes
  'bf00800000b8147d00006689042560800000c70425628000000800008e66c70425668000000000c704256880000000000000c704256c800000000000000f011c25567d0000',
  // an invalid opcode, taken and returned from
  '0f0b',
  // down to ring 3
  '6a1b68006800006a026a2368f77c000048cf',
  // cpuid, SSE2, a locked instruction, a system call
  'b8010000000fa2660f6ec0660f70c800f00fb10c25f06700000f050f0b',
  // the handler: skips the two bytes of the opcode
  '488304240248cf',
  // the system call: ACPI S5, which powers off
  '66ba040666b8002066eff4ebf3',
  // GDT: none, code 0, data 0, data 3, code 3
  '000000000000000000000000009a200000000000009200000000000000f200000000000000fa2000',
  // pointers to the GDT and to the IDT
  '2700287d00006f000080000000000000'
].join('')

const sectorBytes = 512
const bootSignature = 0xaa55
/** Room for what a BIOS reads of a disk beyond its first sector. */
export const trialDiskBytes = 1024 * 1024

export function trialDisk(): Buffer {
  const disk = Buffer.alloc(trialDiskBytes)
  disk.write(code, 'hex')
  disk.writeUInt16LE(bootSignature, sectorBytes - 2)
  return disk
}
