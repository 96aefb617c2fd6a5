//! Takes off a module what only costs time when it loads.
//!
//! Under emulation each signature check is tens of milliseconds, each module's BTF some more, times forty. Neither serves here:
//! nobody writes to the system image, which is checked as a whole, and nothing on the device reads BTF. The kernel notes an
//! unsigned module as a taint and loads it, unless it is locked down (`CONFIG_MODULE_SIG_FORCE`, UEFI Secure Boot): images for
//! Secure Boot keep theirs.

use crate::elf::Elf;

/// `include/linux/module_signature.h`: the signature, a 12-byte description that ends with its length, and this text.
const MARK: &[u8] = b"~Module signature appended~\n";
const DESCRIPTION: usize = 12;

/// The module without signature and without BTF. What is not understood stays as it is.
pub fn lean(module: Vec<u8>) -> Vec<u8> {
    let mut module = module;
    if let Some(length) = unsigned_length(&module) {
        module.truncate(length);
    }
    if let Some((start, end, size_at)) = Elf::parse(&module).ok().and_then(|elf| elf.section_place(".BTF")) {
        // A section without bytes is as good as none; as zeros what is left takes no room in the squashfs.
        for range in [start..end, size_at] {
            if let Some(bytes) = module.get_mut(range) {
                bytes.fill(0);
            }
        }
    }
    module
}

fn unsigned_length(module: &[u8]) -> Option<usize> {
    let body = module.strip_suffix(MARK)?;
    let length = u32::from_be_bytes(*body.last_chunk::<4>()?);
    body.len().checked_sub(DESCRIPTION)?.checked_sub(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::made;

    #[test]
    fn signature_and_btf_go_and_the_rest_stays() {
        let plain = made::sections(&[(".modinfo", b"name=x\0"), (".BTF", &[7; 100]), (".text", b"code")]);
        let mut signed = plain.clone();
        signed.extend([9; 40]);
        signed.extend([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 40]);
        signed.extend(MARK);
        let lean = lean(signed);
        assert_eq!(lean.len(), plain.len());
        let elf = Elf::parse(&lean).unwrap();
        assert_eq!(elf.section(".BTF"), Ok(Some(&b""[..])));
        assert_eq!(elf.section(".modinfo"), Ok(Some(&b"name=x\0"[..])));
        assert_eq!(elf.section(".text"), Ok(Some(&b"code"[..])));
        assert!(!lean.windows(4).any(|bytes| bytes == [7; 4]));
    }

    #[test]
    fn a_wrong_length_and_other_files_are_left_alone() {
        let mut wrong = b"short".to_vec();
        wrong.extend([0, 0, 2, 0, 0, 0, 0, 0, 0xff, 0, 0, 0]);
        wrong.extend(MARK);
        assert_eq!(lean(wrong.clone()), wrong);
        assert_eq!(lean(b"no module".to_vec()), b"no module");
    }
}
