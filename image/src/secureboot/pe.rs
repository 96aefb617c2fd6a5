//! The little of PE that Secure Boot needs (Microsoft, "PE Format"): sections are added to an EFI program, found in it, and hashed as firmware
//! hashes them. Every offset is checked, for the files come from packages.

use ring::digest::{Context, SHA256};
use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    #[error("no EFI program (PE)")]
    None,
    #[error("the EFI program is cut off or damaged")]
    Damaged,
    #[error("the EFI program has no room for {0} more section headers")]
    Full(usize),
    #[error("the EFI program is signed already")]
    Signed,
    #[error("more than 4 GiB")]
    Large,
}

const SECTION_HEADER: usize = 40;
/// Initialised data, readable.
const DATA: u32 = 0x4000_0040;
/// Code, executable, readable.
const CODE: u32 = 0x6000_0020;

/// Where the fields lie.
struct Pe<'a> {
    bytes: &'a [u8],
    /// Of the file header, behind the signature.
    header: usize,
    optional: usize,
    sections: usize,
    count: usize,
    /// Of the data directories within the file.
    directories: usize,
}

#[derive(Debug, Clone, Copy)]
struct Section {
    name: [u8; 8],
    virtual_size: u32,
    address: u32,
    raw_size: u32,
    raw_at: u32,
}

impl<'a> Pe<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, PeError> {
        let mut pe = Self { bytes, header: 0, optional: 0, sections: 0, count: 0, directories: 0 };
        if !bytes.starts_with(b"MZ") {
            return Err(PeError::None);
        }
        let at = pe.word(0x3c)? as usize;
        if bytes.get(at..at.checked_add(4).ok_or(PeError::Damaged)?) != Some(b"PE\0\0") {
            return Err(PeError::None);
        }
        pe.header = at + 4;
        pe.optional = pe.header + 20;
        pe.count = pe.half(pe.header + 2)?.into();
        pe.sections = pe.optional + usize::from(pe.half(pe.header + 16)?);
        // PE32 and PE32+ (64-bit).
        pe.directories = pe.optional
            + match pe.half(pe.optional)? {
                0x10b => 96,
                0x20b => 112,
                _ => return Err(PeError::Damaged),
            };
        pe.section(pe.count.checked_sub(1).ok_or(PeError::Damaged)?)?;
        Ok(pe)
    }

    fn half(&self, at: usize) -> Result<u16, PeError> {
        let bytes = self.bytes.get(at..at.checked_add(2).ok_or(PeError::Damaged)?).ok_or(PeError::Damaged)?;
        Ok(u16::from_le_bytes(bytes.try_into().map_err(|_| PeError::Damaged)?))
    }

    fn word(&self, at: usize) -> Result<u32, PeError> {
        Ok(u32::from(self.half(at)?) | u32::from(self.half(at.checked_add(2).ok_or(PeError::Damaged)?)?) << 16)
    }

    fn section_alignment(&self) -> Result<u32, PeError> {
        self.word(self.optional + 32)
    }

    fn file_alignment(&self) -> Result<u32, PeError> {
        self.word(self.optional + 36)
    }

    fn header_bytes(&self) -> Result<u32, PeError> {
        self.word(self.optional + 60)
    }

    fn checksum_at(&self) -> usize {
        self.optional + 64
    }

    /// The directory of certificates.
    fn security_at(&self) -> usize {
        self.directories + 4 * 8
    }

    fn section(&self, index: usize) -> Result<Section, PeError> {
        let at = self.sections + index * SECTION_HEADER;
        let name = self.bytes.get(at..at + 8).and_then(|name| name.try_into().ok()).ok_or(PeError::Damaged)?;
        let [virtual_size, address, raw_size, raw_at] =
            [self.word(at + 8)?, self.word(at + 12)?, self.word(at + 16)?, self.word(at + 20)?];
        Ok(Section { name, virtual_size, address, raw_size, raw_at })
    }

    fn all(&self) -> Result<Vec<Section>, PeError> {
        (0..self.count).map(|index| self.section(index)).collect()
    }
}

fn padded(name: &str) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Result<(), PeError> {
    bytes.get_mut(at..at + value.len()).ok_or(PeError::Damaged)?.copy_from_slice(value);
    Ok(())
}

fn aligned(value: u64, to: u32) -> Result<u64, PeError> {
    value.checked_next_multiple_of(to.into()).ok_or(PeError::Damaged)
}

fn small(value: u64) -> Result<u32, PeError> {
    u32::try_from(value).map_err(|_| PeError::Large)
}

/// The program with further sections at its end.
pub fn with_sections(program: &[u8], added: &[(&str, &[u8])]) -> Result<Vec<u8>, PeError> {
    let pe = Pe::parse(program)?;
    let sections = pe.all()?;
    if pe.word(pe.security_at() + 4)? != 0 {
        return Err(PeError::Signed);
    }
    let past = |section: &Section| u64::from(section.raw_at) + u64::from(section.raw_size) > program.len() as u64;
    if sections.iter().any(past) {
        return Err(PeError::Damaged);
    }
    let first_raw = sections.iter().filter(|section| section.raw_size > 0).map(|section| section.raw_at).min();
    let room = first_raw.unwrap_or(0).min(pe.header_bytes()?) as usize;
    if pe.sections + (pe.count + added.len()) * SECTION_HEADER > room {
        return Err(PeError::Full(added.len()));
    }
    let (in_memory, in_file) = (pe.section_alignment()?, pe.file_alignment()?);
    // The format's own bounds: what is added grows by no more than that.
    if !in_file.is_power_of_two() || in_file > 64 << 10 || !in_memory.is_power_of_two() {
        return Err(PeError::Damaged);
    }
    let mut end =
        sections.iter().map(|section| u64::from(section.address) + u64::from(section.virtual_size)).max().unwrap_or(0);
    let mut bytes = program.to_vec();
    for (index, (name, content)) in added.iter().enumerate() {
        let address = aligned(end, in_memory)?;
        let raw_at = aligned(bytes.len() as u64, in_file)?;
        let raw_size = aligned(content.len() as u64, in_file)?;
        end = address + content.len() as u64;
        bytes.resize(usize::try_from(raw_at).map_err(|_| PeError::Large)?, 0);
        bytes.extend_from_slice(content);
        bytes.resize(usize::try_from(raw_at + raw_size).map_err(|_| PeError::Large)?, 0);
        // Old kernels run where they lie.
        let kind = if *name == ".linux" { CODE } else { DATA };
        let mut header = padded(name).to_vec();
        for field in [small(content.len() as u64)?, small(address)?, small(raw_size)?, small(raw_at)?, 0, 0, 0, kind] {
            header.extend(field.to_le_bytes());
        }
        put(&mut bytes, pe.sections + (pe.count + index) * SECTION_HEADER, &header)?;
    }
    let count = u16::try_from(pe.count + added.len()).map_err(|_| PeError::Full(added.len()))?;
    put(&mut bytes, pe.header + 2, &count.to_le_bytes())?;
    put(&mut bytes, pe.optional + 56, &small(aligned(end, in_memory)?)?.to_le_bytes())?;
    put(&mut bytes, pe.checksum_at(), &[0; 4])?;
    Ok(bytes)
}

/// The content of the section called `name`.
pub fn section<'a>(program: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let pe = Pe::parse(program).ok()?;
    let found = pe.all().ok()?.into_iter().find(|section| section.name == padded(name))?;
    let start = found.raw_at as usize;
    program.get(start..start.checked_add(found.virtual_size.min(found.raw_size) as usize)?)
}

/// The hash that a signature is of (Microsoft, "Windows Authenticode Portable Executable Signature Format"): all but the checksum, where the
/// certificates are said to be, and these.
pub fn hash(program: &[u8]) -> Result<[u8; 32], PeError> {
    let pe = Pe::parse(program)?;
    let mut state = Context::new(&SHA256);
    let mut add = |range: Range<usize>| program.get(range).map(|bytes| state.update(bytes)).ok_or(PeError::Damaged);
    let headers = pe.header_bytes()? as usize;
    add(0..pe.checksum_at())?;
    add(pe.checksum_at() + 4..pe.security_at())?;
    add(pe.security_at() + 8..headers)?;
    let mut sections = pe.all()?;
    sections.retain(|section| section.raw_size > 0);
    sections.sort_by_key(|section| section.raw_at);
    let mut hashed = headers;
    for section in &sections {
        let (start, length) = (section.raw_at as usize, section.raw_size as usize);
        add(start..start.checked_add(length).ok_or(PeError::Damaged)?)?;
        hashed = hashed.checked_add(length).ok_or(PeError::Damaged)?;
    }
    let certificates = pe.word(pe.security_at() + 4)? as usize;
    let end = program.len().checked_sub(certificates).ok_or(PeError::Damaged)?;
    if end > hashed {
        add(hashed..end)?;
    }
    let mut digest = [0; 32];
    digest.iter_mut().zip(state.finish().as_ref()).for_each(|(to, from)| *to = *from);
    Ok(digest)
}

/// The program as it is before its certificates are put behind it: filled up to eight bytes, without a checksum.
pub fn unsigned(program: &[u8]) -> Result<Vec<u8>, PeError> {
    let pe = Pe::parse(program)?;
    if pe.word(pe.security_at() + 4)? != 0 {
        return Err(PeError::Signed);
    }
    let mut bytes = program.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    put(&mut bytes, pe.checksum_at(), &[0; 4])?;
    Ok(bytes)
}

/// Puts a PKCS #7 signature behind what [`unsigned`] gave.
pub fn attach(mut bytes: Vec<u8>, signature: &[u8]) -> Result<Vec<u8>, PeError> {
    let security = Pe::parse(&bytes)?.security_at();
    let at = small(bytes.len() as u64)?;
    // WIN_CERTIFICATE: its length, revision 2.0, PKCS #7 signed data.
    let length = small(signature.len() as u64 + 8)?;
    bytes.extend(length.to_le_bytes());
    bytes.extend([0, 2, 2, 0]);
    bytes.extend(signature);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let size = small(bytes.len() as u64)? - at;
    put(&mut bytes, security, &at.to_le_bytes())?;
    put(&mut bytes, security + 4, &size.to_le_bytes())?;
    Ok(bytes)
}
