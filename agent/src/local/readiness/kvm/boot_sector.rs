//! The smallest guest that shows whether a virtual machine runs: a boot sector that enters 64-bit mode, writes to memory a
//! million times, and tells QEMU's `isa-debug-exit` at port 0xf4.

/// QEMU's exit status once the guest has written 0x10 to the port: twice that, and one.
pub(super) const SAID: i32 = 0x21;

const SECTOR: usize = 512;
/// What firmware loads is known by it.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// Loaded at 0x7c00 in 16-bit mode. One line an instruction.
#[rustfmt::skip]
const CODE: &[u8] = &[
    0xfa,                                     // cli
    0x31, 0xc0,                               // xor ax, ax
    0x8e, 0xd8,                               // mov ds, ax
    0x8e, 0xc0,                               // mov es, ax
    0x8e, 0xd0,                               // mov ss, ax
    0xbc, 0x00, 0x7c,                         // mov sp, 0x7c00
    0xfc,                                     // cld
    0xbf, 0x00, 0x10,                         // mov di, 0x1000        page tables at 0x1000: cleared
    0xb9, 0x00, 0x18,                         // mov cx, 0x1800
    0xf3, 0xab,                               // rep stosw
    0xc7, 0x06, 0x00, 0x10, 0x03, 0x20,       // mov word [0x1000], 0x2003
    0xc7, 0x06, 0x00, 0x20, 0x03, 0x30,       // mov word [0x2000], 0x3003
    0xc7, 0x06, 0x00, 0x30, 0x83, 0x00,       // mov word [0x3000], 0x0083   the first 2 MiB as they are
    0x66, 0xb8, 0x00, 0x10, 0x00, 0x00,       // mov eax, 0x1000
    0x0f, 0x22, 0xd8,                         // mov cr3, eax
    0x0f, 0x20, 0xe0,                         // mov eax, cr4
    0x66, 0x83, 0xc8, 0x20,                   // or eax, 0x20          PAE
    0x0f, 0x22, 0xe0,                         // mov cr4, eax
    0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0,       // mov ecx, 0xc0000080   EFER
    0x0f, 0x32,                               // rdmsr
    0x66, 0x0d, 0x00, 0x01, 0x00, 0x00,       // or eax, 0x100         LME
    0x0f, 0x30,                               // wrmsr
    0x0f, 0x01, 0x16, 0xa0, 0x7c,             // lgdt [0x7ca0]
    0x0f, 0x20, 0xc0,                         // mov eax, cr0
    0x66, 0x0d, 0x01, 0x00, 0x00, 0x80,       // or eax, 0x80000001    PG, PE
    0x0f, 0x22, 0xc0,                         // mov cr0, eax
    0xea, 0x60, 0x7c, 0x08, 0x00,             // jmp 0x08:0x7c60       64-bit from here
    0x48, 0xc7, 0xc1, 0x00, 0x00, 0x10, 0x00, // mov rcx, 0x100000
    0x48, 0x89, 0xc8,                         // mov rax, rcx
    0x48, 0x25, 0xf8, 0xff, 0x07, 0x00,       // and rax, 0x7fff8
    0x48, 0x89, 0x88, 0x00, 0x00, 0x10, 0x00, // mov [rax + 0x100000], rcx
    0x48, 0xff, 0xc9,                         // dec rcx
    0x75, 0xeb,                               // jnz                   to mov rax, rcx
    0xb0, 0x10,                               // mov al, 0x10
    0x66, 0xba, 0xf4, 0x00,                   // mov dx, 0xf4
    0xee,                                     // out dx, al
    0xf4,                                     // hlt
    0xeb, 0xfd,                               // jmp                   to hlt
    0x66, 0x90,                               // nop
    0, 0, 0, 0, 0, 0, 0, 0,                   // 0x7c88: segments: none,
    0xff, 0xff, 0, 0, 0, 0x9a, 0xaf, 0,       //         64-bit code,
    0xff, 0xff, 0, 0, 0, 0x92, 0xaf, 0,       //         data
    0x17, 0x00, 0x88, 0x7c, 0, 0,             // 0x7ca0: their table's limit and address
];

/// The sector.
pub(super) fn bytes() -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    sector[..CODE.len()].copy_from_slice(CODE);
    sector[SECTOR - SIGNATURE.len()..].copy_from_slice(&SIGNATURE);
    sector
}
