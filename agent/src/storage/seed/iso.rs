//! Writes an ISO 9660 volume with a few files in its root, with Rock Ridge names for Linux and Joliet for others.
//!
//! Sources: ECMA-119 (volume and directory records, whose sections are named below), IEEE P1281 (SUSP), P1282 (Rock
//! Ridge), and Microsoft's Joliet specification. Dates are fixed: the same files give the same bytes.

const SECTOR: usize = 2048;
/// Where each part of a volume lies, in sectors; file contents follow.
const PRIMARY: u32 = 16;
const JOLIET: u32 = 17;
const TERMINATOR: u32 = 18;
const PRIMARY_PATHS: u32 = 19;
const JOLIET_PATHS: u32 = 21;
const PRIMARY_ROOT: u32 = 23;
const CONTINUATION: u32 = 24;
const JOLIET_ROOT: u32 = 25;
const CONTENT: u32 = 26;

/// A root's entry in a path table (9.4).
const PATH_ENTRY_BYTES: u32 = 10;
/// 1 January 1980, midnight, UTC (9.1.5).
const DATE: [u8; 7] = [80, 1, 1, 0, 0, 0, 0];
const FOLDER: u8 = 2;
const FILE_MODE: u32 = 0o100_444;
const FOLDER_MODE: u32 = 0o040_555;

/// A file in the root. Names are ASCII, at most 20 bytes, in order.
pub(super) struct File<'a> {
    pub(super) name: &'a str,
    pub(super) content: &'a [u8],
}

/// The bytes of a volume.
pub(super) fn volume(label: &str, files: &[File<'_>]) -> Vec<u8> {
    let mut placed = Vec::new();
    let mut next = CONTENT;
    for file in files {
        placed.push(Placed { name: file.name, at: next, length: count(file.content) });
        next += count(file.content).div_ceil(count(&[0; SECTOR]));
    }
    let mut image = Image(vec![0; next as usize * SECTOR]);
    image.put(PRIMARY, &descriptor(1, label, next));
    image.put(JOLIET, &descriptor(2, label, next));
    image.put(TERMINATOR, b"\xffCD001\x01");
    for (table, root) in [(PRIMARY_PATHS, PRIMARY_ROOT), (JOLIET_PATHS, JOLIET_ROOT)] {
        image.put(table, &path_entry(root.to_le_bytes(), 1u16.to_le_bytes()));
        image.put(table + 1, &path_entry(root.to_be_bytes(), 1u16.to_be_bytes()));
    }
    image.put(PRIMARY_ROOT, &primary_root(&placed));
    image.put(CONTINUATION, &extension_reference());
    image.put(JOLIET_ROOT, &joliet_root(&placed));
    for (file, placed) in files.iter().zip(&placed) {
        image.put(placed.at, file.content);
    }
    image.0
}

/// The content of a file in the root of a volume, by its Joliet name; none: there is none, or the volume is not as we
/// write it.
pub(super) fn file<'a>(volume: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let wanted = wide(&format!("{name};1"));
    let mut at = JOLIET_ROOT as usize * SECTOR;
    let end = at + SECTOR;
    if volume.get(JOLIET as usize * SECTOR..)?.get(1..6)? != b"CD001" {
        return None;
    }
    while at < end {
        let length = usize::from(*volume.get(at)?);
        // A record of nothing ends the folder.
        let record = volume.get(at..at + length).filter(|record| record.len() > 33)?;
        let id = record.get(33..33 + usize::from(record[32]))?;
        if id == wanted {
            let (sector, length) = (le32(record, 2)?, le32(record, 10)?);
            return volume.get(sector.checked_mul(SECTOR)?..)?.get(..length);
        }
        at += length;
    }
    None
}

fn le32(bytes: &[u8], at: usize) -> Option<usize> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(four)).ok()
}

struct Placed<'a> {
    name: &'a str,
    at: u32,
    length: u32,
}

struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, sector: u32, bytes: &[u8]) {
        let at = sector as usize * SECTOR;
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// A volume descriptor (8.4, 8.5): kind 1 is the primary one, 2 Joliet's.
fn descriptor(kind: u8, label: &str, sectors: u32) -> Vec<u8> {
    let joliet = kind == 2;
    let (root, paths) = if joliet { (JOLIET_ROOT, JOLIET_PATHS) } else { (PRIMARY_ROOT, PRIMARY_PATHS) };
    let mut bytes = vec![0; SECTOR];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &[kind]);
    put(1, b"CD001\x01");
    put(8, &text("", 32, joliet));
    put(40, &text(label, 32, joliet));
    put(80, &both32(sectors));
    if joliet {
        // UCS-2, level 3.
        put(88, b"%/E");
    }
    put(120, &both16(1));
    put(124, &both16(1));
    put(128, &both16(2048));
    put(132, &both32(PATH_ENTRY_BYTES));
    put(140, &paths.to_le_bytes());
    put(148, &(paths + 1).to_be_bytes());
    put(156, &record(&[0], root, 2048, FOLDER, &[]));
    for (at, length) in [(190, 128), (318, 128), (446, 128), (574, 128), (702, 37), (739, 37), (776, 37)] {
        put(at, &text("", length, joliet));
    }
    for at in [813, 830, 847, 864] {
        // No date (8.4.26.1).
        put(at, b"0000000000000000\0");
    }
    put(881, &[1]);
    bytes
}

/// A field padded with spaces, in ASCII or UCS-2.
fn text(value: &str, length: usize, ucs2: bool) -> Vec<u8> {
    let mut bytes = if ucs2 { wide(value) } else { value.as_bytes().to_vec() };
    while bytes.len() < length {
        if ucs2 && bytes.len() + 1 < length {
            bytes.push(0);
        }
        bytes.push(b' ');
    }
    bytes
}

fn wide(value: &str) -> Vec<u8> {
    value.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn path_entry(root: [u8; 4], parent: [u8; 2]) -> Vec<u8> {
    [&[1, 0], &root[..], &parent, &[0, 0]].concat()
}

fn primary_root(files: &[Placed<'_>]) -> Vec<u8> {
    let folder = posix(FOLDER_MODE, 2);
    let here = [&b"SP\x07\x01\xbe\xef\x00"[..], &folder, &continuation()].concat();
    let mut bytes = record(&[0], PRIMARY_ROOT, 2048, FOLDER, &here);
    bytes.extend(record(&[1], PRIMARY_ROOT, 2048, FOLDER, &folder));
    for file in files {
        let plain = format!("{}.;1", file.name.to_uppercase().replace('-', "_"));
        let extra = [posix(FILE_MODE, 1), name(file.name)].concat();
        bytes.extend(record(plain.as_bytes(), file.at, file.length, 0, &extra));
    }
    bytes
}

fn joliet_root(files: &[Placed<'_>]) -> Vec<u8> {
    let mut bytes = record(&[0], JOLIET_ROOT, 2048, FOLDER, &[]);
    bytes.extend(record(&[1], JOLIET_ROOT, 2048, FOLDER, &[]));
    for file in files {
        bytes.extend(record(&wide(&format!("{};1", file.name)), file.at, file.length, 0, &[]));
    }
    bytes
}

/// A directory record (9.1), with what Rock Ridge adds.
fn record(id: &[u8], at: u32, length: u32, flags: u8, extra: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(both32(at));
    bytes.extend(both32(length));
    bytes.extend(DATE);
    bytes.extend([flags, 0, 0]);
    bytes.extend(both16(1));
    bytes.push(byte(id.len()));
    bytes.extend(id);
    pad(&mut bytes);
    bytes.extend(extra);
    pad(&mut bytes);
    bytes[0] = byte(bytes.len());
    bytes
}

fn pad(bytes: &mut Vec<u8>) {
    if !bytes.len().is_multiple_of(2) {
        bytes.push(0);
    }
}

/// Rock Ridge: mode, links, owner (P1282, 4.1.1), as of its 1991 version.
fn posix(mode: u32, links: u32) -> Vec<u8> {
    [&b"PX\x24\x01"[..], &both32(mode), &both32(links), &both32(0), &both32(0)].concat()
}

/// Rock Ridge: the name (P1282, 4.1.4).
fn name(name: &str) -> Vec<u8> {
    [&b"NM"[..], &[byte(5 + name.len()), 1, 0], name.as_bytes()].concat()
}

/// SUSP: more in another sector (P1281, 5.1).
fn continuation() -> Vec<u8> {
    [&b"CE\x1c\x01"[..], &both32(CONTINUATION), &both32(0), &both32(count(&extension_reference()))].concat()
}

/// SUSP: which extensions are used (P1281, 5.5), and an end.
fn extension_reference() -> Vec<u8> {
    const ID: &[u8] = b"RRIP_1991A";
    const WHAT: &[u8] =
        b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS";
    const SOURCE: &[u8] =
        b"PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN \
        PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION.";
    let length = byte(8 + ID.len() + WHAT.len() + SOURCE.len());
    let head = [length, 1, byte(ID.len()), byte(WHAT.len()), byte(SOURCE.len()), 1];
    [b"ER", &head[..], ID, WHAT, SOURCE, b"ST\x04\x01"].concat()
}

fn both32(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

fn both16(value: u16) -> [u8; 4] {
    let mut bytes = [0; 4];
    bytes[..2].copy_from_slice(&value.to_le_bytes());
    bytes[2..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// Lengths here are of names and records: all far below 255.
fn byte(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

/// Contents are bounded by the limits on events, far below 4 GiB.
fn count(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
