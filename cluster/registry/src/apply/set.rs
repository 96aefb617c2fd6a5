//! Field sets: which fields someone owns. A tree whose levels are sorted vectors, so that every operation is one merge of two sorted rows.

use serde_json::{Map, Value};

use super::element::Element;

/// Paths, those with a common beginning sharing it. Empty sets cost no memory of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    /// Sorted; each is a member or has some below it.
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    element: Element,
    /// The path that ends here is in the set.
    member: bool,
    below: Set,
}

/// What becomes of two sets: whether a path stays that is in the one, the other, or both.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
    /// As a difference, but a path of the second set takes all below it along.
    Without,
}

impl Set {
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Puts what is known of one element's path and of those below it; elements may come in any order if [`Set::sort`] follows.
    pub(crate) fn put(&mut self, element: Element, member: bool, below: Self) {
        if member || !below.is_empty() {
            self.nodes.push(Node { element, member, below });
        }
    }

    /// Restores the order after [`Set::put`].
    pub(crate) fn sort(&mut self) {
        if !self.nodes.is_sorted_by(|a, b| a.element < b.element) {
            self.nodes.sort_by(|a, b| a.element.cmp(&b.element));
        }
    }

    /// The set of dotted paths of plain fields, such as `metadata.labels`.
    pub(crate) fn of_fields(paths: &[&str]) -> Self {
        paths.iter().fold(Self::default(), |set, path| {
            let one = path.rsplit('.').fold(Self::default(), |below, name| {
                let mut set = Self::default();
                set.put(Element::Field(name.to_owned().into()), below.is_empty(), below);
                set
            });
            set.union(&one)
        })
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        self.combine(other, Operation::Union)
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, Operation::Intersection)
    }

    pub(crate) fn difference(&self, other: &Self) -> Self {
        self.combine(other, Operation::Difference)
    }

    pub(crate) fn without(&self, other: &Self) -> Self {
        self.combine(other, Operation::Without)
    }

    fn combine(&self, other: &Self, operation: Operation) -> Self {
        let (keeps_left, keeps_right) = match operation {
            Operation::Union => (true, true),
            Operation::Intersection => (false, false),
            Operation::Difference | Operation::Without => (true, false),
        };
        let mut out = Self::default();
        let (mut left, mut right) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        loop {
            let order = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) => a.element.cmp(&b.element),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return out,
            };
            match order {
                std::cmp::Ordering::Less => out.nodes.extend(left.next().filter(|_| keeps_left).cloned()),
                std::cmp::Ordering::Greater => out.nodes.extend(right.next().filter(|_| keeps_right).cloned()),
                std::cmp::Ordering::Equal => {
                    if let (Some(a), Some(b)) = (left.next(), right.next()) {
                        let member = match operation {
                            Operation::Union => a.member || b.member,
                            Operation::Intersection => a.member && b.member,
                            Operation::Difference | Operation::Without => a.member && !b.member,
                        };
                        let gone = operation == Operation::Without && b.member;
                        let below = if gone { Self::default() } else { a.below.combine(&b.below, operation) };
                        out.put(a.element.clone(), member, below);
                    }
                }
            }
        }
    }

    fn node(&self, element: &Element) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|node| node.element.cmp(element)).ok()?;
        self.nodes.get(at)
    }

    /// Whether the path of this element alone is in the set.
    pub(crate) fn has(&self, element: &Element) -> bool {
        self.node(element).is_some_and(|node| node.member)
    }

    /// What is in the set below the element.
    pub(crate) fn below(&self, element: &Element) -> Option<&Self> {
        self.node(element).map(|node| &node.below).filter(|below| !below.is_empty())
    }

    /// Every element of the first level, with what is below it, made a member or not as `member` says.
    pub(crate) fn map(&self, mut change: impl FnMut(&Element, bool, &Self) -> (bool, Self)) -> Self {
        let mut out = Self::default();
        for node in &self.nodes {
            let (member, below) = change(&node.element, node.member, &node.below);
            out.put(node.element.clone(), member, below);
        }
        out
    }

    /// Every path in the set: at each level first those that end there.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.walk("", &mut out);
        out
    }

    fn walk(&self, prefix: &str, out: &mut Vec<String>) {
        out.extend(self.nodes.iter().filter(|n| n.member).map(|n| format!("{prefix}{}", n.element)));
        for node in &self.nodes {
            if !node.below.is_empty() {
                node.below.walk(&format!("{prefix}{}", node.element), out);
            }
        }
    }

    /// `fieldsV1`.
    pub(crate) fn encode(&self) -> Map<String, Value> {
        let entry = |node: &Node| {
            let mut below = node.below.encode();
            if node.member && !below.is_empty() {
                below.insert(".".into(), Map::new().into());
            }
            (node.element.encode(), Value::Object(below))
        };
        self.nodes.iter().map(entry).collect()
    }

    pub(crate) fn decode(fields: &Map<String, Value>) -> Result<Self, String> {
        let mut out = Self::default();
        for (text, value) in fields.iter().filter(|(text, _)| *text != ".") {
            let Value::Object(inner) = value else { return Err(format!("{text} is not an object")) };
            if let Some(element) = Element::parse(text)? {
                let below = Self::decode(inner)?;
                out.put(element, inner.contains_key(".") || inner.is_empty(), below);
            }
        }
        out.sort();
        Ok(out)
    }

    /// Whether encoded fields could hold a path of this set, told by their first level alone.
    pub(crate) fn touches(&self, fields: &Map<String, Value>) -> bool {
        self.nodes.iter().any(|node| match &node.element {
            Element::Field(name) => fields.keys().any(|key| key.strip_prefix("f:") == Some(name)),
            Element::Key(_) | Element::Item(_) | Element::Index(_) => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(fields: Value) -> Set {
        Set::decode(fields.as_object().unwrap()).unwrap()
    }

    #[test]
    fn fields_are_written_as_they_are_read() {
        let fields = json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}}}, "f:x": {}},
                            "f:metadata": {"f:finalizers": {"v:\"a\"": {}}}});
        assert_eq!(Value::Object(set(fields.clone()).encode()), fields);
        assert_eq!(
            set(fields).paths(),
            [
                ".metadata.finalizers[=\"a\"]",
                ".spec.x",
                ".spec.containers[name=\"c\"]",
                ".spec.containers[name=\"c\"].image"
            ]
        );
        assert!(Set::decode(json!({"f:a": 1}).as_object().unwrap()).is_err());
    }

    #[test]
    fn a_path_takes_all_below_it_along_only_where_it_should() {
        let all = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        let a = Set::of_fields(&["a"]);
        assert_eq!(all.difference(&a), set(json!({"f:a": {"f:b": {}}, "f:c": {}})));
        assert_eq!(all.without(&a), set(json!({"f:c": {}})));
        assert_eq!(all.intersection(&Set::of_fields(&["a.b", "d"])), Set::of_fields(&["a.b"]));
        assert_eq!(Set::of_fields(&["a.b", "c", "a"]), all);
    }

    fn sets() -> impl Strategy<Value = Set> {
        let element = prop_oneof![
            "[a-c]".prop_map(|n| Element::Field(n.into())),
            (0..3i64).prop_map(|p| Element::Key(vec![("port".into(), json!(p))])),
            "[a-b]".prop_map(|n| Element::Item(json!(n))),
        ];
        let leaf = Just(Set::default());
        leaf.prop_recursive(3, 32, 4, move |inner| {
            prop::collection::btree_map(element.clone(), (any::<bool>(), inner), 0..4).prop_map(|nodes| {
                let mut set = Set::default();
                for (element, (member, below)) in nodes {
                    set.put(element, member, below);
                }
                set
            })
        })
    }

    proptest! {
        #[test]
        fn the_laws_of_sets_hold(a in sets(), b in sets(), c in sets()) {
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.intersection(&b), b.intersection(&a));
            prop_assert_eq!(a.union(&b.union(&c)), a.union(&b).union(&c));
            prop_assert_eq!(a.intersection(&b.union(&c)), a.intersection(&b).union(&a.intersection(&c)));
            prop_assert_eq!(a.union(&a), a.clone());
            prop_assert_eq!(a.intersection(&a), a.clone());
            prop_assert!(a.difference(&a).is_empty());
            prop_assert_eq!(a.difference(&b), a.difference(&a.intersection(&b)));
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.without(&b).difference(&a), Set::default());
            prop_assert!(a.without(&b).intersection(&b).is_empty());
        }

        #[test]
        fn encoding_is_lossless_and_canonical(a in sets(), b in sets()) {
            let encoded = a.encode();
            prop_assert_eq!(&Set::decode(&encoded).unwrap(), &a);
            prop_assert_eq!(a == b, a.encode() == b.encode());
            prop_assert!(a.intersection(&b).is_empty() || a.touches(&b.encode()));
            let paths: std::collections::BTreeSet<_> = a.paths().into_iter().collect();
            prop_assert_eq!(paths.len(), a.paths().len());
        }
    }
}
