//! The format of `config.txt` and `autoboot.txt`: settings, and filters that say for whom they are (raspberrypi.com, documentation,
//! config.txt, "File Format" and "Conditional Filters").

use super::models::Model;

/// What is longer is cut.
pub const LINE_BYTES: usize = 98;

/// Who reads.
pub struct Machine {
    pub model: &'static Model,
    pub tryboot: bool,
}

/// The settings that hold, in the file's order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pairs: Vec<(String, String)>,
    /// Filters of a kind that is not known here: what is below them does not hold.
    pub unknown: Vec<String>,
}

/// Filters of one kind replace each other, those of different kinds must all let pass; `[all]` lets pass whatever was before it.
#[derive(Default)]
struct Passing {
    none: bool,
    model: Option<bool>,
    tryboot: Option<bool>,
    unknown: bool,
}

impl Passing {
    fn passes(&self) -> bool {
        !self.none && !self.unknown && self.model.unwrap_or(true) && self.tryboot.unwrap_or(true)
    }

    /// Gives whether the filter is of a known kind.
    fn meet(&mut self, filter: &str, machine: &Machine) -> bool {
        let board_type = filter.strip_prefix("board-type=").map(number);
        match (filter, board_type) {
            ("all", _) => *self = Self::default(),
            ("none", _) => self.none = true,
            ("tryboot", _) => self.tryboot = Some(machine.tryboot),
            (_, Some(wanted)) => self.model = Some(wanted == Some(machine.model.board_type)),
            (name, None) if name.starts_with("pi") || name.starts_with("cm") => {
                self.model = Some(machine.model.filters.contains(&name));
            }
            _ => self.unknown = true,
        }
        !self.unknown
    }
}

fn number(text: &str) -> Option<u32> {
    text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |digits| u32::from_str_radix(digits, 16).ok())
}

impl Settings {
    pub fn parse(text: &str, machine: &Machine) -> Self {
        let (mut settings, mut passing) = (Self::default(), Passing::default());
        for line in text.lines() {
            let line = line.get(..line.floor_char_boundary(LINE_BYTES)).unwrap_or(line).trim();
            if let Some(filter) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                if !passing.meet(filter, machine) {
                    settings.unknown.push(filter.to_owned());
                }
            } else if !line.starts_with('#') && passing.passes() {
                // `initramfs` alone has a blank where others have an equals sign.
                let pair = line.split_once('=').or_else(|| line.split_once(' ').filter(|(key, _)| *key == "initramfs"));
                settings.pairs.extend(pair.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())));
            }
        }
        settings
    }

    /// The last one counts.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    pub fn number(&self, key: &str) -> Option<u32> {
        self.get(key).and_then(number)
    }

    pub fn all(&self, key: &'static str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Whether the processor is started in its 64-bit state.
    pub fn wide(&self) -> bool {
        self.number("arm_64bit").unwrap_or(0) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raspberry_pi::models::MODELS;

    fn read(text: &str, board_type: u32, tryboot: bool) -> Settings {
        let model = MODELS.iter().find(|model| model.board_type == board_type).unwrap();
        Settings::parse(text, &Machine { model, tryboot })
    }

    #[test]
    fn filters_choose_as_documented() {
        let text =
            "a=1\n[pi3]\na=3\n[pi3+]\na=3p\n[board-type=0x11]\na=4\n[tryboot]\nb=try\n[all]\nc=all\n[none]\nc=none\n";
        let seen = |board_type, tryboot| {
            let settings = read(text, board_type, tryboot);
            ["a", "b", "c"].map(|key| settings.get(key).unwrap_or("-").to_owned()).join(" ")
        };
        assert_eq!(seen(0x08, false), "3 - all");
        assert_eq!(seen(0x0d, true), "3p - all");
        // A filter of another kind comes on top: the 4 that tries.
        assert_eq!(seen(0x11, true), "4 try all");
        assert_eq!(seen(0x11, false), "4 - all");
        assert_eq!(seen(0x17, false), "1 - all");
    }

    #[test]
    fn lines_are_cut_comments_left_out_and_strange_filters_told() {
        let long = format!("x={}\n", "9".repeat(200));
        let text = format!("{long}#y=1\n[EDID=VSC]\ny=2\n[all]\ninitramfs a,b followkernel\nz = 0x10\nnothing\n");
        let settings = read(&text, 0x11, false);
        assert_eq!(settings.get("x").unwrap().len(), 96);
        assert_eq!((settings.get("y"), settings.get("nothing")), (None, None));
        assert_eq!((settings.get("initramfs"), settings.number("z")), (Some("a,b followkernel"), Some(16)));
        assert_eq!(settings.unknown, ["EDID=VSC"]);
    }
}
