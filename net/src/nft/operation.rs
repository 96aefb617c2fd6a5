//! What a transaction consists of: as text for people and golden tests, as netlink messages for the kernel.

use std::fmt;

use super::element::{Element, Given, Gives, MAPS, Map, MapRow, Type};
use super::expression::Expression;
use super::wire::{Messages, NLM_F_APPEND, NLM_F_CREATE};
use super::{Family, TABLE};

/// Where the kernel hands a packet to a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    pub kind: &'static str,
    pub name: &'static str,
    pub number: u32,
    pub priority: i32,
}

/// One change of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Makes the table if it is missing.
    AddTable,
    /// Removes the table with all in it.
    DeleteTable,
    AddMap {
        map: Map,
        family: Family,
    },
    AddChain {
        name: String,
        hook: Option<Hook>,
    },
    AddRule {
        chain: String,
        expressions: Vec<Expression>,
    },
    /// All elements belong to one map.
    AddElements(Vec<Element>),
    DeleteElements(Vec<Element>),
}

const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
pub(super) const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM | 14;
pub(super) const INET: u8 = 1;

const SET_MAP: u32 = 0x8;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
const DATA_VERDICT: u32 = 0xffff_ff00;

/// Clients that an affinity map remembers at most; beyond it new ones are balanced as if there was no affinity.
const REMEMBERED: u32 = 65536;

/// Elements of one message: an attribute's length has 16 bits, and an element is below 150 bytes long.
pub(super) const ELEMENTS_A_MESSAGE: usize = 256;

impl Operation {
    /// Appends its message. `id` is unique within the transaction.
    pub fn encode(&self, id: u32, out: &mut Messages) {
        match self {
            Self::AddTable => out.message(NEW_TABLE, NLM_F_CREATE, INET, 0, |out| out.text(1, TABLE)),
            Self::DeleteTable => out.message(DELETE_TABLE, 0, INET, 0, |out| out.text(1, TABLE)),
            Self::AddMap { map, family } => {
                if let Some(row) = MAPS.iter().find(|row| row.map == *map) {
                    encode_map(row, *family, id, out);
                }
            }
            Self::AddChain { name, hook } => out.message(NEW_CHAIN, NLM_F_CREATE, INET, 0, |out| {
                out.text(1, TABLE);
                out.text(3, name);
                if let Some(hook) = hook {
                    out.nest(4, |out| {
                        out.number(1, hook.number);
                        out.number(2, hook.priority as u32);
                    });
                    out.number(5, 1);
                    out.text(7, hook.kind);
                }
            }),
            Self::AddRule { chain, expressions } => {
                out.message(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, INET, 0, |out| {
                    out.text(1, TABLE);
                    out.text(2, chain);
                    out.nest(4, |out| {
                        for expression in expressions {
                            out.nest(1, |out| expression.encode(out));
                        }
                    });
                });
            }
            Self::AddElements(elements) => encode_elements(NEW_ELEMENTS, NLM_F_CREATE, elements, true, out),
            Self::DeleteElements(elements) => encode_elements(DELETE_ELEMENTS, 0, elements, false, out),
        }
    }
}

fn encode_map(row: &MapRow, family: Family, id: u32, out: &mut Messages) {
    let length = |types: &[Type]| types.iter().map(|t| u32::from(t.words(family)) * 4).sum();
    // nft(8) packs the types of a concatenation six bits each.
    let listed = |types: &[Type]| types.iter().fold(0, |all, t| all << 6 | t.listed_as(family));
    let mut flags = 0;
    if row.gives != Gives::Nothing {
        flags |= SET_MAP;
    }
    if row.dynamic {
        flags |= SET_TIMEOUT | SET_EVAL;
    }
    out.message(NEW_SET, NLM_F_CREATE, INET, 0, |out| {
        out.text(1, TABLE);
        out.text(2, &row.map.name(family));
        out.number(3, flags);
        out.number(4, listed(row.key));
        out.number(5, length(row.key));
        match row.gives {
            Gives::Nothing => {}
            Gives::Verdict => out.number(6, DATA_VERDICT),
            Gives::Values(types) => {
                out.number(6, listed(types));
                out.number(7, length(types));
            }
        }
        if row.dynamic {
            out.nest(9, |out| out.number(1, REMEMBERED));
        }
        out.number(10, id);
    });
}

fn encode_elements(kind: u16, flags: u16, elements: &[Element], with_value: bool, out: &mut Messages) {
    let Some((map, family)) = elements.first().map(Element::place) else { return };
    out.message(kind, flags, INET, 0, |out| {
        out.text(1, TABLE);
        out.text(2, &map.name(family));
        out.nest(3, |out| {
            for element in elements {
                out.nest(1, |out| {
                    out.nest(1, |out| out.raw(1, &element.key()));
                    match element.given() {
                        Given::Bytes(bytes) if with_value => out.nest(2, |out| out.raw(1, &bytes)),
                        Given::Verdict(verdict) if with_value => out.nest(2, |out| verdict.encode(out)),
                        Given::Nothing | Given::Bytes(_) | Given::Verdict(_) => {}
                    }
                });
            }
        });
    });
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddTable => write!(f, "add table inet {TABLE}"),
            Self::DeleteTable => write!(f, "delete table inet {TABLE}"),
            Self::AddMap { map, family } => write!(f, "add map {}", map.name(*family)),
            Self::AddChain { name, hook: None } => write!(f, "add chain {name}"),
            Self::AddChain { name, hook: Some(hook) } => {
                write!(f, "add chain {name} {{ type {} hook {} priority {} }}", hook.kind, hook.name, hook.priority)
            }
            Self::AddRule { chain, expressions } => {
                write!(f, "add rule {chain}")?;
                expressions
                    .iter()
                    .enumerate()
                    .try_for_each(|(n, expression)| write!(f, "{}{expression}", if n == 0 { " " } else { "; " }))
            }
            Self::AddElements(elements) => write_elements(f, "add", elements),
            Self::DeleteElements(elements) => write_elements(f, "delete", elements),
        }
    }
}

fn write_elements(f: &mut fmt::Formatter<'_>, verb: &str, elements: &[Element]) -> fmt::Result {
    let mut first = true;
    for element in elements {
        if !first {
            f.write_str("\n")?;
        }
        first = false;
        let (map, family) = element.place();
        write!(f, "{verb} element {} {{ {element} }}", map.name(family))?;
    }
    Ok(())
}
