//! The little of ELF that the tool needs: a kernel module's `.modinfo`, and whether a program is static and for which machine.
//! Little-endian files of 32 and 64 bits; every offset is checked, for the files come from packages and from people.

use kedge_config::board::Architecture;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ElfError {
    #[error("not an ELF file")]
    NotElf,
    #[error("big-endian ELF files are not supported")]
    BigEndian,
    #[error("the ELF file is cut off or damaged")]
    Damaged,
}

pub struct Elf<'a> {
    bytes: &'a [u8],
    wide: bool,
}

const PT_INTERP: u64 = 3;
const MAX_HEADERS: u64 = 65_535;

impl<'a> Elf<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ElfError> {
        let ident = bytes.get(..16).ok_or(ElfError::NotElf)?;
        if !ident.starts_with(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        match (ident.get(4), ident.get(5)) {
            (Some(1), Some(1)) => Ok(Self { bytes, wide: false }),
            (Some(2), Some(1)) => Ok(Self { bytes, wide: true }),
            (_, Some(2)) => Err(ElfError::BigEndian),
            _ => Err(ElfError::Damaged),
        }
    }

    /// A little-endian number of `width` bytes.
    fn number(&self, at: u64, width: usize) -> Result<u64, ElfError> {
        let at = usize::try_from(at).map_err(|_| ElfError::Damaged)?;
        let end = at.checked_add(width).ok_or(ElfError::Damaged)?;
        let bytes = self.bytes.get(at..end).ok_or(ElfError::Damaged)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// The field at `narrow` in 32-bit files and at `wide` in 64-bit files, of the width of an address.
    fn word(&self, base: u64, narrow: u64, wide: u64) -> Result<u64, ElfError> {
        let (offset, width) = if self.wide { (wide, 8) } else { (narrow, 4) };
        self.number(base.checked_add(offset).ok_or(ElfError::Damaged)?, width)
    }

    fn half(&self, narrow: u64, wide: u64) -> Result<u64, ElfError> {
        self.number(if self.wide { wide } else { narrow }, 2)
    }

    /// The machine the code is for; `None` is one that Kedge does not know.
    pub fn architecture(&self) -> Result<Option<Architecture>, ElfError> {
        Ok(match self.number(18, 2)? {
            62 => Some(Architecture::X86_64),
            183 => Some(Architecture::Aarch64),
            40 => Some(Architecture::Armv7),
            _ => None,
        })
    }

    /// The dynamic loader that the program asks for; a static program asks for none.
    pub fn interpreter(&self) -> Result<Option<String>, ElfError> {
        let table = self.word(0, 28, 32)?;
        let (size, count) = (self.half(42, 54)?, self.half(44, 56)?.min(MAX_HEADERS));
        for index in 0..count {
            let header = table.checked_add(size * index).ok_or(ElfError::Damaged)?;
            if self.number(header, 4)? == PT_INTERP {
                let name = self.slice(self.word(header, 4, 8)?, self.word(header, 16, 32)?)?;
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                return Ok(Some(String::from_utf8_lossy(name).into_owned()));
            }
        }
        Ok(None)
    }

    fn slice(&self, at: u64, length: u64) -> Result<&'a [u8], ElfError> {
        let start = usize::try_from(at).map_err(|_| ElfError::Damaged)?;
        let end = at.checked_add(length).and_then(|end| usize::try_from(end).ok()).ok_or(ElfError::Damaged)?;
        self.bytes.get(start..end).ok_or(ElfError::Damaged)
    }

    /// The bytes of the first section called `name`.
    pub fn section(&self, name: &str) -> Result<Option<&'a [u8]>, ElfError> {
        self.header(name)?.map(|header| self.body(header)).transpose()
    }

    /// Where the section called `name` starts and ends in the file, and where its length stands.
    pub fn section_place(&self, name: &str) -> Option<(usize, usize, std::ops::Range<usize>)> {
        let header = self.header(name).ok().flatten()?;
        let body = self.body(header).ok()?;
        let start = usize::try_from(self.word(header, 16, 24).ok()?).ok()?;
        let (length_at, width) = if self.wide { (32, 8) } else { (20, 4) };
        let at = usize::try_from(header).ok()?.checked_add(length_at)?;
        Some((start, start.checked_add(body.len())?, at..at + width))
    }

    fn body(&self, header: u64) -> Result<&'a [u8], ElfError> {
        self.slice(self.word(header, 16, 24)?, self.word(header, 20, 32)?)
    }

    /// The offset of the section's header.
    fn header(&self, name: &str) -> Result<Option<u64>, ElfError> {
        let table = self.word(0, 32, 40)?;
        let (size, count, names) = (self.half(46, 58)?, self.half(48, 60)?, self.half(50, 62)?);
        let header = |index: u64| table.checked_add(size * index).ok_or(ElfError::Damaged);
        if count == 0 {
            return Ok(None);
        }
        let strings = self.body(header(names)?)?;
        for index in 0..count {
            let header = header(index)?;
            let at = usize::try_from(self.number(header, 4)?).map_err(|_| ElfError::Damaged)?;
            let found = strings.get(at..).ok_or(ElfError::Damaged)?.split(|byte| *byte == 0).next();
            if found == Some(name.as_bytes()) {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
pub mod made {
    //! ELF files for tests, as small as the reader lets them be.

    /// A relocatable 64-bit x86 file with one section, `.modinfo`.
    pub fn module(modinfo: &[u8]) -> Vec<u8> {
        sections(&[(".modinfo", modinfo)])
    }

    /// A relocatable 64-bit x86 file with these sections.
    pub fn sections(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut names = b"\0.shstrtab\0".to_vec();
        let mut headers: Vec<(usize, usize, usize)> = vec![(0, 0, 0), (1, 64, 0)];
        for (name, bytes) in sections {
            headers.push((names.len(), 0, bytes.len()));
            names.extend(name.as_bytes().iter().chain(&[0]));
        }
        headers[1].2 = names.len();
        let mut end = 64 + names.len();
        for header in &mut headers[2..] {
            header.1 = end;
            end += header.2;
        }
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([1, 0, 62, 0, 1, 0, 0, 0]);
        file.extend([0; 16]);
        file.extend((end as u64).to_le_bytes());
        file.extend([0; 4]);
        for half in [64, 0, 0, 64, headers.len() as u16, 1] {
            file.extend(half.to_le_bytes());
        }
        file.extend(&names);
        sections.iter().for_each(|(_, bytes)| file.extend(*bytes));
        for (name, at, length) in headers {
            file.extend((name as u32).to_le_bytes());
            file.extend([0; 20]);
            file.extend((at as u64).to_le_bytes());
            file.extend((length as u64).to_le_bytes());
            file.extend([0; 24]);
        }
        file
    }

    /// A 64-bit x86 program; with `interpreter` it asks for that loader.
    pub fn program(interpreter: Option<&str>) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        file.extend([0; 8]);
        file.extend(64_u64.to_le_bytes());
        file.extend([0; 12]);
        for half in [64_u16, 56, u16::from(interpreter.is_some()), 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        if let Some(name) = interpreter {
            file.extend(3_u32.to_le_bytes());
            file.extend([0; 4]);
            file.extend(120_u64.to_le_bytes());
            file.extend([0; 16]);
            file.extend((name.len() as u64 + 1).to_le_bytes());
            file.extend([0; 16]);
            file.extend(name.as_bytes());
            file.push(0);
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_interpreters_are_found() {
        let module = made::module(b"name=x\0");
        let elf = Elf::parse(&module).unwrap();
        assert_eq!(elf.section(".modinfo"), Ok(Some(&b"name=x\0"[..])));
        assert_eq!(elf.section(".text"), Ok(None));
        assert_eq!(elf.architecture(), Ok(Some(Architecture::X86_64)));
        let (dynamic, fixed) = (made::program(Some("/lib64/ld.so")), made::program(None));
        assert_eq!(Elf::parse(&dynamic).unwrap().interpreter(), Ok(Some("/lib64/ld.so".to_owned())));
        assert_eq!(Elf::parse(&fixed).unwrap().interpreter(), Ok(None));
    }

    #[test]
    fn every_cut_of_a_file_is_an_error_or_an_absence() {
        let module = made::module(b"name=x\0");
        // The last fields of the last header say nothing that is asked for.
        for end in 0..module.len() - 24 {
            if let Ok(elf) = Elf::parse(&module[..end]) {
                assert_ne!(elf.section(".modinfo"), Ok(Some(&b"name=x\0"[..])), "cut at {end}");
            }
        }
        assert_eq!(Elf::parse(b"MZ").err(), Some(ElfError::NotElf));
    }

    #[test]
    fn the_running_test_is_an_elf_file_of_this_machine() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = Elf::parse(&bytes).unwrap();
        assert!(elf.architecture().unwrap().is_some());
        assert!(elf.section(".text").unwrap().is_some_and(|text| !text.is_empty()));
    }
}
