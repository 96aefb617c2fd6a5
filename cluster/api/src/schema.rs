//! What is known of each Kubernetes type: its fields, their shapes, which are required, how lists and maps are merged.
//!
//! Owns the facts, not what is done with them: field validation, patching, apply and OpenAPI each walk these tables. The tables are
//! made by `build.rs` from `schema/types.txt`; they hold indices only, so that they need neither relocation nor heap.

/// A type, by its name in OpenAPI. A handle of two bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Type(u16);

/// The type named so, e.g. `io.k8s.api.core.v1.Pod`.
pub fn get(name: &str) -> Option<Type> {
    let at = TYPES.binary_search_by(|row| text(row.name).cmp(name)).ok()?;
    u16::try_from(at).ok().map(Type)
}

/// All types, by name.
pub fn types() -> impl Iterator<Item = Type> {
    (0u16..).take(TYPES.len()).map(Type)
}

impl Type {
    fn row(self) -> &'static TypeRow {
        TYPES.get(usize::from(self.0)).unwrap_or(&NO_TYPE)
    }

    pub fn name(self) -> &'static str {
        text(self.row().name)
    }

    /// The last part of the name: `PodSpec`.
    pub fn short_name(self) -> &'static str {
        self.name().rsplit('.').next().unwrap_or_default()
    }

    /// What a type without fields of its own is on the wire, e.g. a string for `Time`.
    pub fn alias(self) -> Option<Shape> {
        SHAPES.get(usize::from(self.row().alias)).copied()
    }

    /// Server-side apply replaces values of this type whole (`x-kubernetes-map-type: atomic`).
    pub fn is_atomic(self) -> bool {
        self.row().atomic
    }

    /// Fields by name.
    pub fn fields(self) -> impl ExactSizeIterator<Item = Field> + Clone {
        slice(&FIELDS, self.row().fields).iter().map(Field)
    }

    pub fn field(self, name: &str) -> Option<Field> {
        let fields = slice(&FIELDS, self.row().fields);
        let at = fields.binary_search_by(|row| text(row.name).cmp(name)).ok()?;
        fields.get(at).map(Field)
    }

    /// Group, version and kind of which this is the type (`x-kubernetes-group-version-kind`).
    pub fn kinds(self) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        slice(&GVKS, self.row().gvks).iter().map(|&[g, v, k]| (text(g), text(v), text(k)))
    }
}

impl std::fmt::Debug for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a value looks like on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    String,
    /// Base64 in a string.
    Bytes,
    /// RFC 3339 in a string.
    Time,
    Int32,
    Int64,
    Number,
    Boolean,
    Any,
    /// An object of unknown fields.
    Object,
    IntOrString,
    /// A number or a string such as `100m` or `1Gi`.
    Quantity,
    Type(Type),
    List(Item),
    /// An object of any keys.
    Map(Item),
}

impl Shape {
    /// Looks through a type that only names another shape.
    pub fn resolve(self) -> Self {
        match self {
            Self::Type(t) => t.alias().unwrap_or(self),
            other => other,
        }
    }
}

/// The shape of a list's or map's elements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Item(u16);

impl Item {
    pub fn shape(self) -> Shape {
        SHAPES.get(usize::from(self.0)).copied().unwrap_or(Shape::Any)
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.shape().fmt(f)
    }
}

/// A field of a type.
#[derive(Clone, Copy)]
pub struct Field(&'static FieldRow);

impl Field {
    fn rules(self) -> &'static RuleRow {
        RULES.get(usize::from(self.0.rules)).unwrap_or(&NO_RULES)
    }

    pub fn name(self) -> &'static str {
        text(self.0.name)
    }

    pub fn shape(self) -> Shape {
        Item(self.0.shape).shape()
    }

    pub fn required(self) -> bool {
        self.0.required
    }

    /// The published default, as JSON.
    pub fn default(self) -> Option<&'static str> {
        some(self.rules().default)
    }

    /// The strings that it, or each of its elements, may hold (`enum`); none where any will do.
    pub fn choices(self) -> impl Iterator<Item = &'static str> + Clone {
        some(self.rules().choices).into_iter().flat_map(|strings| strings.split(','))
    }

    /// `x-kubernetes-list-type`, with its keys.
    pub fn list(self) -> Option<List> {
        match self.rules().list {
            1 => Some(List::Atomic),
            2 => Some(List::Set),
            3 => Some(List::Map),
            _ => None,
        }
    }

    /// `x-kubernetes-list-map-keys`.
    pub fn map_keys(self) -> impl Iterator<Item = &'static str> + Clone {
        self.rules().keys.iter().filter_map(|&k| some(k))
    }

    /// `x-kubernetes-map-type` of this field alone.
    pub fn map_is_atomic(self) -> bool {
        self.rules().map == 1
    }

    /// `x-kubernetes-map-type` as published, if it is.
    pub fn map_type(self) -> Option<&'static str> {
        match self.rules().map {
            1 => Some("atomic"),
            2 => Some("granular"),
            _ => None,
        }
    }

    /// `x-kubernetes-patch-merge-key`.
    pub fn merge_key(self) -> Option<&'static str> {
        some(self.rules().merge)
    }

    /// `x-kubernetes-patch-strategy` names `merge`.
    pub fn patch_merges(self) -> bool {
        self.rules().patch & 1 != 0
    }

    /// `x-kubernetes-patch-strategy` names `retainKeys`.
    pub fn patch_retains_keys(self) -> bool {
        self.rules().patch & 2 != 0
    }

    /// A number or boolean that is not written when it is zero.
    pub fn drops_zero(self) -> bool {
        self.rules().patch & 8 != 0
    }

    /// An object that is written even when it is empty.
    pub fn keeps_zero(self) -> bool {
        self.rules().patch & 32 != 0
    }

    /// A string that is written even when it is empty, or a list of which an empty one says something else than none.
    pub fn keeps_empty(self) -> bool {
        self.rules().patch & 16 != 0
    }

    /// `x-kubernetes-patch-strategy` names `replace`.
    pub fn patch_replaces(self) -> bool {
        self.rules().patch & 4 != 0
    }
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}", self.name(), self.shape())
    }
}

/// How apply merges a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Atomic,
    Set,
    Map,
}

struct TypeRow {
    name: u16,
    alias: u16,
    atomic: bool,
    fields: (u16, u16),
    gvks: (u16, u16),
}

struct FieldRow {
    name: u16,
    shape: u16,
    rules: u16,
    required: bool,
}

struct RuleRow {
    list: u8,
    keys: [u16; 4],
    map: u8,
    merge: u16,
    patch: u8,
    default: u16,
    choices: u16,
}

static NO_TYPE: TypeRow = TypeRow { name: 0, alias: u16::MAX, atomic: false, fields: (0, 0), gvks: (0, 0) };
static NO_RULES: RuleRow = RuleRow { list: 0, keys: [0; 4], map: 0, merge: 0, patch: 0, default: 0, choices: 0 };

include!(concat!(env!("OUT_DIR"), "/schema_tables.rs"));

fn text(at: u16) -> &'static str {
    let end = |i: u16| ENDS.get(usize::from(i)).map_or(0, |&e| e as usize);
    let start = at.checked_sub(1).map_or(0, end);
    POOL.get(start..end(at)).unwrap_or_default()
}

fn some(at: u16) -> Option<&'static str> {
    Some(text(at)).filter(|t| !t.is_empty())
}

fn slice<T>(rows: &'static [T], (from, count): (u16, u16)) -> &'static [T] {
    let from = usize::from(from);
    rows.get(from..from + usize::from(count)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_spec_has_its_facts() {
        let spec = get("io.k8s.api.core.v1.PodSpec").unwrap();
        let containers = spec.field("containers").unwrap();
        assert!(containers.required() && containers.patch_merges());
        assert_eq!(containers.merge_key(), Some("name"));
        assert_eq!(containers.list(), Some(List::Map));
        assert_eq!(containers.map_keys().collect::<Vec<_>>(), ["name"]);
        let Shape::List(item) = containers.shape() else { panic!("not a list") };
        assert_eq!(item.shape(), Shape::Type(get("io.k8s.api.core.v1.Container").unwrap()));
        assert!(spec.field("volumes").unwrap().patch_retains_keys());
        assert!(spec.field("nodeSelector").unwrap().map_is_atomic());
        assert!(spec.field("nonsense").is_none());
    }

    #[test]
    fn defaults_and_aliases_are_kept() {
        let port = get("io.k8s.api.core.v1.ServicePort").unwrap();
        assert_eq!(port.field("protocol").unwrap().default(), Some("\"TCP\""));
        assert_eq!(port.field("targetPort").unwrap().shape().resolve(), Shape::IntOrString);
        assert_eq!(get("io.k8s.apimachinery.pkg.apis.meta.v1.Time").unwrap().alias(), Some(Shape::Time));
        let pod = get("io.k8s.api.core.v1.Pod").unwrap();
        assert_eq!(pod.kinds().collect::<Vec<_>>(), [("", "v1", "Pod")]);
    }

    #[test]
    fn choices_are_strings_one_of_which_may_be_empty() {
        let choices = |name: &str, field: &str| get(name).unwrap().field(field).unwrap().choices().collect::<Vec<_>>();
        assert_eq!(choices("io.k8s.api.core.v1.Container", "imagePullPolicy"), ["Always", "IfNotPresent", "Never"]);
        assert_eq!(choices("io.k8s.api.core.v1.HostPathVolumeSource", "type")[..2], ["", "BlockDevice"]);
        assert_eq!(choices("io.k8s.api.core.v1.Container", "image"), [""; 0]);
    }

    #[test]
    fn every_type_is_found_by_its_name_and_every_field_by_its_own() {
        assert_eq!(types().count(), 584);
        for t in types() {
            assert_eq!(get(t.name()), Some(t));
            for field in t.fields() {
                assert_eq!(t.field(field.name()).unwrap().name(), field.name());
                let mut shape = field.shape();
                while let Shape::List(item) | Shape::Map(item) = shape {
                    shape = item.shape();
                }
                assert_eq!(field.map_keys().next().is_some(), field.list() == Some(List::Map), "{t:?}.{field:?}");
            }
        }
        assert_eq!(get("io.k8s.api.core.v1.Nothing"), None);
    }
}
