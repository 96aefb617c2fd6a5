//! The little of a flattened device tree that is read here: for which machines it is (Devicetree Specification 0.4, chapter 5).

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TreeError {
    #[error("no device tree")]
    Magic,
    #[error("a device tree of {told} bytes, of which {found} are there")]
    Length { told: usize, found: usize },
    #[error("a damaged device tree")]
    Damaged,
    #[error("a device tree that does not say for what machine it is")]
    Nameless,
}

const MAGIC: usize = 0xd00d_feed;
const BEGIN_NODE: usize = 1;
const PROPERTY: usize = 3;
const NOTHING: usize = 4;

/// The names in the root's `compatible`, the most exact first.
pub fn compatible(tree: &[u8]) -> Result<Vec<String>, TreeError> {
    let word = |at: usize| -> Result<usize, TreeError> {
        let bytes = tree.get(at..at.saturating_add(4)).and_then(|bytes| bytes.try_into().ok());
        bytes.map(|bytes| u32::from_be_bytes(bytes) as usize).ok_or(TreeError::Damaged)
    };
    if word(0).ok() != Some(MAGIC) {
        return Err(TreeError::Magic);
    }
    let told = word(4)?;
    if told > tree.len() {
        return Err(TreeError::Length { told, found: tree.len() });
    }
    let (structure, strings) = (word(8)?, word(12)?);
    // The root comes first; its name is empty, one word of zeros.
    if word(structure)? != BEGIN_NODE {
        return Err(TreeError::Damaged);
    }
    let mut at = structure.saturating_add(8);
    loop {
        match word(at)? {
            NOTHING => at = at.saturating_add(4),
            PROPERTY => {
                let (length, name) = (word(at.saturating_add(4))?, word(at.saturating_add(8))?);
                let value = at.saturating_add(12);
                let name = tree.get(strings.saturating_add(name)..).unwrap_or_default();
                if name.starts_with(b"compatible\0") {
                    let value = tree.get(value..value.saturating_add(length)).ok_or(TreeError::Damaged)?;
                    let names = value.split(|byte| *byte == 0).filter(|name| !name.is_empty());
                    return Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect());
                }
                at = value.saturating_add(length.next_multiple_of(4));
            }
            // A child, or the root's end: all its properties were seen.
            _ => return Err(TreeError::Nameless),
        }
    }
}

#[cfg(test)]
pub mod made {
    /// A tree whose root has a `model` and this `compatible`.
    pub fn tree(compatible: &[&str]) -> Vec<u8> {
        let strings = b"model\0compatible\0";
        let mut value = compatible.join("\0").into_bytes();
        value.push(0);
        let mut structure = Vec::new();
        let mut add = |words: &[u32], bytes: &[u8]| {
            structure.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            structure.extend(bytes);
            structure.resize(structure.len().next_multiple_of(4), 0);
        };
        add(&[1, 0], &[]);
        add(&[3, 5, 0], b"Test\0");
        add(&[3, value.len() as u32, 6], &value);
        add(&[2, 9], &[]);
        let (start, end) = (40, 40 + structure.len() as u32);
        let header =
            [0xd00d_feed, end + strings.len() as u32, start, end, 28, 17, 16, 0, strings.len() as u32, end - start];
        let header = header.iter().flat_map(|word: &u32| word.to_be_bytes());
        header.chain(structure).chain(strings.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roots_names_are_found_and_damage_is_told() {
        let tree = made::tree(&["raspberrypi,4-model-b", "brcm,bcm2711"]);
        assert_eq!(compatible(&tree).unwrap(), ["raspberrypi,4-model-b", "brcm,bcm2711"]);
        assert_eq!(compatible(b"MZ"), Err(TreeError::Magic));
        assert_eq!(compatible(&tree[..50]), Err(TreeError::Length { told: tree.len(), found: 50 }));
        for at in 4..tree.len() {
            let mut damaged = tree.clone();
            damaged[at] = !damaged[at];
            // Any answer but a panic.
            let _ = compatible(&damaged);
        }
    }
}
