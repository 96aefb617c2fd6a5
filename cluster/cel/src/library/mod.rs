//! The functions: which there are, with which types, and what they do.

pub(crate) mod address;
pub(crate) mod call;
pub(crate) mod format;
pub(crate) mod lists;
pub(crate) mod named;
pub(crate) mod operators;
pub(crate) mod quantity;
pub(crate) mod semver;
pub(crate) mod strings;
pub(crate) mod time;
pub(crate) mod url;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::authorizer::{AUTHORIZER, DECISION, GROUP_CHECK, PATH_CHECK, RESOURCE_CHECK};
use crate::types::{CIDR, FORMAT, IP, QUANTITY, SEMVER, Type, URL};

/// One way to call a function.
#[derive(Debug)]
pub(crate) struct Overload {
    /// Called on its first argument.
    pub(crate) member: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
}

/// Each function with its signatures: `RECEIVER.(ARGUMENTS)RESULT`, or without the receiver. `A`, `B` stand for any type.
const FUNCTIONS: &[(&str, &[&str])] = &[
    ("_||_", &["(bool,bool)bool"]),
    ("_&&_", &["(bool,bool)bool"]),
    ("!_", &["(bool)bool"]),
    ("_?_:_", &["(bool,A,A)A"]),
    ("_==_", &["(A,A)bool"]),
    ("_!=_", &["(A,A)bool"]),
    ("_<_", ORDER),
    ("_<=_", ORDER),
    ("_>_", ORDER),
    ("_>=_", ORDER),
    (
        "_+_",
        &[
            "(int,int)int",
            "(uint,uint)uint",
            "(double,double)double",
            "(string,string)string",
            "(bytes,bytes)bytes",
            "(list<A>,list<A>)list<A>",
            "(timestamp,duration)timestamp",
            "(duration,timestamp)timestamp",
            "(duration,duration)duration",
        ],
    ),
    (
        "_-_",
        &[
            "(int,int)int",
            "(uint,uint)uint",
            "(double,double)double",
            "(timestamp,duration)timestamp",
            "(timestamp,timestamp)duration",
            "(duration,duration)duration",
        ],
    ),
    ("_*_", &["(int,int)int", "(uint,uint)uint", "(double,double)double"]),
    ("_/_", &["(int,int)int", "(uint,uint)uint", "(double,double)double"]),
    ("_%_", &["(int,int)int", "(uint,uint)uint"]),
    ("-_", &["(int)int", "(double)double"]),
    ("@in", &["(A,list<A>)bool", "(A,map<A,B>)bool"]),
    (
        "_[_]",
        &["(list<A>,int)A", "(map<A,B>,A)B", "(optional<list<A>>,int)optional<A>", "(optional<map<A,B>>,A)optional<B>"],
    ),
    (
        "_[?_]",
        &[
            "(list<A>,int)optional<A>",
            "(map<A,B>,A)optional<B>",
            "(optional<list<A>>,int)optional<A>",
            "(optional<map<A,B>>,A)optional<B>",
        ],
    ),
    (
        "size",
        &[
            "(string)int",
            "(bytes)int",
            "(list<A>)int",
            "(map<A,B>)int",
            "string.()int",
            "bytes.()int",
            "list<A>.()int",
            "map<A,B>.()int",
        ],
    ),
    ("type", &["(A)type"]),
    ("dyn", &["(A)dyn"]),
    ("bool", &["(bool)bool", "(string)bool"]),
    ("int", &["(int)int", "(uint)int", "(double)int", "(string)int", "(timestamp)int", "(duration)int"]),
    ("uint", &["(uint)uint", "(int)uint", "(double)uint", "(string)uint"]),
    ("double", &["(double)double", "(int)double", "(uint)double", "(string)double"]),
    (
        "string",
        &[
            "(string)string",
            "(bool)string",
            "(int)string",
            "(uint)string",
            "(double)string",
            "(bytes)string",
            "(timestamp)string",
            "(duration)string",
            "(ip)string",
            "(cidr)string",
        ],
    ),
    ("bytes", &["(bytes)bytes", "(string)bytes"]),
    ("duration", &["(duration)duration", "(string)duration"]),
    ("timestamp", &["(timestamp)timestamp", "(string)timestamp", "(int)timestamp"]),
    ("getFullYear", PART_OF_TIME),
    ("getMonth", PART_OF_TIME),
    ("getDayOfYear", PART_OF_TIME),
    ("getDayOfMonth", PART_OF_TIME),
    ("getDate", PART_OF_TIME),
    ("getDayOfWeek", PART_OF_TIME),
    ("getHours", PART_OF_EITHER),
    ("getMinutes", PART_OF_EITHER),
    ("getSeconds", PART_OF_EITHER),
    ("getMilliseconds", PART_OF_EITHER),
    ("contains", &["string.(string)bool"]),
    ("startsWith", &["string.(string)bool"]),
    ("endsWith", &["string.(string)bool"]),
    ("matches", &["string.(string)bool", "(string,string)bool"]),
    ("charAt", &["string.(int)string"]),
    ("indexOf", &["string.(string)int", "string.(string,int)int", "list<A>.(A)int"]),
    ("lastIndexOf", &["string.(string)int", "string.(string,int)int", "list<A>.(A)int"]),
    ("lowerAscii", &["string.()string"]),
    ("upperAscii", &["string.()string"]),
    ("trim", &["string.()string"]),
    ("replace", &["string.(string,string)string", "string.(string,string,int)string"]),
    ("split", &["string.(string)list<string>", "string.(string,int)list<string>"]),
    ("substring", &["string.(int)string", "string.(int,int)string"]),
    ("join", &["list<string>.()string", "list<string>.(string)string"]),
    ("format", &["string.(list<dyn>)string"]),
    ("strings.quote", &["(string)string"]),
    ("find", &["string.(string)string"]),
    ("findAll", &["string.(string)list<string>", "string.(string,int)list<string>"]),
    ("isSorted", &["list<A>.()bool"]),
    ("sum", &["list<int>.()int", "list<uint>.()uint", "list<double>.()double", "list<duration>.()duration"]),
    ("min", &["list<A>.()A"]),
    ("max", &["list<A>.()A"]),
    ("slice", &["list<A>.(int,int)list<A>"]),
    ("flatten", &["list<list<A>>.()list<A>", "list<dyn>.(int)list<dyn>"]),
    (
        "sort",
        &[
            "list<int>.()list<int>",
            "list<uint>.()list<uint>",
            "list<double>.()list<double>",
            "list<bool>.()list<bool>",
            "list<duration>.()list<duration>",
            "list<timestamp>.()list<timestamp>",
            "list<string>.()list<string>",
            "list<bytes>.()list<bytes>",
        ],
    ),
    (
        "@sortByAssociatedKeys",
        &[
            "list<A>.(list<int>)list<A>",
            "list<A>.(list<uint>)list<A>",
            "list<A>.(list<double>)list<A>",
            "list<A>.(list<bool>)list<A>",
            "list<A>.(list<duration>)list<A>",
            "list<A>.(list<timestamp>)list<A>",
            "list<A>.(list<string>)list<A>",
            "list<A>.(list<bytes>)list<A>",
        ],
    ),
    ("lists.range", &["(int)list<int>"]),
    ("reverse", &["list<A>.()list<A>"]),
    ("distinct", &["list<A>.()list<A>"]),
    ("sets.contains", &["(list<A>,list<A>)bool"]),
    ("sets.equivalent", &["(list<A>,list<A>)bool"]),
    ("sets.intersects", &["(list<A>,list<A>)bool"]),
    ("url", &["(string)url"]),
    ("isURL", &["(string)bool"]),
    ("getScheme", &["url.()string"]),
    ("getHost", &["url.()string"]),
    ("getHostname", &["url.()string"]),
    ("getPort", &["url.()string"]),
    ("getEscapedPath", &["url.()string"]),
    ("getQuery", &["url.()map<string,list<string>>"]),
    ("quantity", &["(string)quantity"]),
    ("isQuantity", &["(string)bool"]),
    ("isInteger", &["quantity.()bool"]),
    ("asInteger", &["quantity.()int"]),
    ("asApproximateFloat", &["quantity.()double"]),
    ("sign", &["quantity.()int"]),
    ("add", &["quantity.(quantity)quantity", "quantity.(int)quantity"]),
    ("sub", &["quantity.(quantity)quantity", "quantity.(int)quantity"]),
    ("isLessThan", &["quantity.(quantity)bool", "semver.(semver)bool"]),
    ("isGreaterThan", &["quantity.(quantity)bool", "semver.(semver)bool"]),
    ("compareTo", &["quantity.(quantity)int", "semver.(semver)int"]),
    ("semver", &["(string)semver", "(string,bool)semver"]),
    ("isSemver", &["(string)bool", "(string,bool)bool"]),
    ("major", &["semver.()int"]),
    ("minor", &["semver.()int"]),
    ("patch", &["semver.()int"]),
    ("ip", &["(string)ip", "cidr.()ip"]),
    ("isIP", &["(string)bool"]),
    ("ip.isCanonical", &["(string)bool"]),
    ("family", &["ip.()int"]),
    ("isUnspecified", &["ip.()bool"]),
    ("isLoopback", &["ip.()bool"]),
    ("isLinkLocalMulticast", &["ip.()bool"]),
    ("isLinkLocalUnicast", &["ip.()bool"]),
    ("isGlobalUnicast", &["ip.()bool"]),
    ("cidr", &["(string)cidr"]),
    ("isCIDR", &["(string)bool"]),
    ("containsIP", &["cidr.(ip)bool", "cidr.(string)bool"]),
    ("containsCIDR", &["cidr.(cidr)bool", "cidr.(string)bool"]),
    ("masked", &["cidr.()cidr"]),
    ("prefixLength", &["cidr.()int"]),
    ("format.named", &["(string)optional<format>"]),
    ("format.dns1123Label", &["()format"]),
    ("format.dns1123Subdomain", &["()format"]),
    ("format.dns1035Label", &["()format"]),
    ("format.qualifiedName", &["()format"]),
    ("format.dns1123LabelPrefix", &["()format"]),
    ("format.dns1123SubdomainPrefix", &["()format"]),
    ("format.dns1035LabelPrefix", &["()format"]),
    ("format.labelValue", &["()format"]),
    ("format.uri", &["()format"]),
    ("format.uuid", &["()format"]),
    ("format.byte", &["()format"]),
    ("format.date", &["()format"]),
    ("format.datetime", &["()format"]),
    ("validate", &["format.(string)optional<list<string>>"]),
    ("path", &["authorizer.(string)pathCheck"]),
    ("group", &["authorizer.(string)groupCheck"]),
    ("serviceAccount", &["authorizer.(string,string)authorizer"]),
    ("resource", &["groupCheck.(string)resourceCheck"]),
    ("subresource", &["resourceCheck.(string)resourceCheck"]),
    ("namespace", &["resourceCheck.(string)resourceCheck"]),
    ("name", &["resourceCheck.(string)resourceCheck"]),
    ("fieldSelector", &["resourceCheck.(string)resourceCheck"]),
    ("labelSelector", &["resourceCheck.(string)resourceCheck"]),
    ("check", &["pathCheck.(string)decision", "resourceCheck.(string)decision"]),
    ("allowed", &["decision.()bool"]),
    ("reason", &["decision.()string"]),
    ("errored", &["decision.()bool"]),
    ("error", &["decision.()string"]),
    ("jsonpatch.escapeKey", &["(string)string"]),
    // An object of a type that the environment declares: `Object{field: value}`.
    ("@new", &["(dyn,map<string,A>)dyn"]),
    ("optional.of", &["(A)optional<A>"]),
    ("optional.none", &["()optional<A>"]),
    ("optional.ofNonZeroValue", &["(A)optional<A>"]),
    ("optional.unwrap", &["(list<optional<A>>)list<A>"]),
    ("unwrapOpt", &["list<optional<A>>.()list<A>"]),
    ("first", &["list<A>.()optional<A>"]),
    ("last", &["list<A>.()optional<A>"]),
    ("hasValue", &["optional<A>.()bool"]),
    ("value", &["optional<A>.()A"]),
    ("or", &["optional<A>.(optional<A>)optional<A>"]),
    ("orValue", &["optional<A>.(A)A"]),
];

const ORDER: &[&str] = &[
    "(bool,bool)bool",
    "(int,int)bool",
    "(int,uint)bool",
    "(int,double)bool",
    "(uint,uint)bool",
    "(uint,int)bool",
    "(uint,double)bool",
    "(double,double)bool",
    "(double,int)bool",
    "(double,uint)bool",
    "(string,string)bool",
    "(bytes,bytes)bool",
    "(timestamp,timestamp)bool",
    "(duration,duration)bool",
];
const PART_OF_TIME: &[&str] = &["timestamp.()int", "timestamp.(string)int"];
const PART_OF_EITHER: &[&str] = &["timestamp.()int", "timestamp.(string)int", "duration.()int"];

static TABLE: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    FUNCTIONS.iter().map(|(name, texts)| (*name, texts.iter().filter_map(|text| signature(text)).collect())).collect()
});

pub(crate) fn overloads(function: &str) -> Option<&'static [Overload]> {
    TABLE.get(function).map(Vec::as_slice)
}

fn signature(text: &str) -> Option<Overload> {
    let (head, rest) = text.split_once('(')?;
    let (args, result) = rest.rsplit_once(')')?;
    let receiver = head.strip_suffix('.');
    let mut types: Vec<Type> = receiver.map(parse_type).into_iter().collect::<Option<_>>()?;
    for arg in split(args) {
        types.push(parse_type(arg)?);
    }
    Some(Overload { member: receiver.is_some(), args: types, result: parse_type(result)? })
}

/// At commas outside of `<…>`.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts.retain(|part| !part.is_empty());
    parts
}

fn parse_type(text: &str) -> Option<Type> {
    if let Some((name, inner)) = text.strip_suffix('>').and_then(|text| text.split_once('<')) {
        let inner: Vec<Type> = split(inner).into_iter().map(parse_type).collect::<Option<_>>()?;
        return match (name, inner.as_slice()) {
            ("list", [of]) => Some(Type::list(of.clone())),
            ("optional", [of]) => Some(Type::optional(of.clone())),
            ("map", [key, value]) => Some(Type::map(key.clone(), value.clone())),
            _ => None,
        };
    }
    Some(match text {
        "A" => Type::Param(0),
        "B" => Type::Param(1),
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "type" => Type::Type,
        "url" => URL,
        "quantity" => QUANTITY,
        "ip" => IP,
        "cidr" => CIDR,
        "semver" => SEMVER,
        "format" => FORMAT,
        "authorizer" => AUTHORIZER,
        "pathCheck" => PATH_CHECK,
        "groupCheck" => GROUP_CHECK,
        "resourceCheck" => RESOURCE_CHECK,
        "decision" => DECISION,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_one() {
        for (name, texts) in FUNCTIONS {
            assert_eq!(overloads(name).unwrap().len(), texts.len(), "{name}");
        }
        let overload = signature("optional<map<A,B>>.(string,int)list<url>").unwrap();
        assert!(overload.member);
        assert_eq!(overload.args.len(), 3);
        assert_eq!(overload.result, Type::list(URL));
    }
}
