//! The expressions that choose a device, by what its driver says of it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use kedge_cel::{Environment, Program, Sizes, Type};

use crate::errors::{Errors, Path};

/// What an evaluation may be estimated to cost.
const MOST: u64 = 1_000_000;
/// A device's attributes and capacities, of each kind.
const MOST_NAMES: u64 = 32;
const LONGEST_DOMAIN: u64 = 63;
const LONGEST_NAME: u64 = 32;
const LONGEST_VALUE: u64 = 64;

fn environment() -> Environment {
    let by_domain = |of: Type| Type::map(Type::String, Type::map(Type::String, of));
    let fields = BTreeMap::from([
        ("driver".to_owned(), Type::String),
        ("attributes".to_owned(), by_domain(Type::Dyn)),
        ("capacity".to_owned(), by_domain(Type::Library("kubernetes.Quantity"))),
        ("allowMultipleAllocations".to_owned(), Type::Bool),
    ]);
    Environment::default().with("device", Type::object("kubernetes.DRADevice", fields)).with_bindings()
}

/// How large a device can be.
static DEVICE: LazyLock<BTreeMap<String, Sizes>> = LazyLock::new(|| {
    let of = |most: u64| Sizes { most, ..Sizes::default() };
    let by_domain = |value: Sizes, named: bool| {
        let value = Arc::new(value);
        let named = named.then(|| Arc::clone(&value));
        let key = Some(Arc::new(of(LONGEST_NAME)));
        let names = Sizes { most: MOST_NAMES, element: Some(value), key, named, ..Sizes::default() };
        let key = Some(Arc::new(of(LONGEST_DOMAIN)));
        Sizes { most: MOST_NAMES, element: Some(Arc::new(names)), key, ..Sizes::default() }
    };
    let fields = [
        ("driver", of(LONGEST_DOMAIN)),
        ("attributes", by_domain(of(LONGEST_VALUE), true)),
        ("capacity", by_domain(Sizes::default(), false)),
        ("allowMultipleAllocations", of(1)),
    ];
    let fields = fields.map(|(name, sizes)| (name.to_owned(), sizes));
    BTreeMap::from([("device".to_owned(), Sizes { fields: BTreeMap::from(fields), ..Sizes::default() })])
});

/// An attribute's type is not known before there is one.
pub(super) fn validate(text: &str, path: &Path<'_>, errors: &mut Errors) {
    let wrong = match Program::compile(text, &environment()) {
        Err(error) => format!("compilation failed: {error}"),
        Ok(program) => match program.result() {
            Type::Bool | Type::Dyn if program.cost(&DEVICE) > MOST => {
                return errors.forbidden(path, "too complex, exceeds cost limit");
            }
            Type::Bool | Type::Dyn => return,
            other => format!("must evaluate to bool or the unknown type, not {other}"),
        },
    };
    errors.invalid(path, text, &wrong);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_chosen_by_attributes_and_capacity() {
        let run = |text: &str| {
            let mut errors = Errors::default();
            validate(text, &Path::root("e"), &mut errors);
            errors.into_result("", "K", "n").map_or_else(|status| status.message, |()| String::new())
        };
        for right in [
            "device.driver == 'd'",
            "device.attributes['d.io'].fast",
            "device.capacity['d.io'].memory.compareTo(quantity('1Gi')) >= 0",
        ] {
            assert_eq!(run(right), "", "{right}");
        }
        assert!(run("device.foo").contains("undefined field 'foo'"));
        assert!(run("device.driver").ends_with("must evaluate to bool or the unknown type, not string"));
        let ten = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]";
        let nested = |depth: usize| {
            let open: String = (0..depth).map(|nth| format!("{ten}.all(x{nth}, ")).collect();
            format!("{open}int('1'.find('[0-9]*')) < 100{}", ")".repeat(depth))
        };
        assert_eq!(run(&nested(4)), "");
        assert!(run(&nested(7)).ends_with("e: Forbidden: too complex, exceeds cost limit"));
        assert!(run("type(device.attributes['d.io'].x) == string").ends_with("exceeds cost limit"), "of no known size");
    }

    #[test]
    fn devices_are_as_large_as_they_can_be() {
        for (text, cost) in [
            ("device.attributes['no-such-domain'].noSuchAttr.isGreaterThan(quantity('0'))", 6),
            ("'no-such-domain' in device.attributes", 3),
            ("device.driver == ''", 2),
            ("device.driver == 'dra.example.com'", 4),
            ("device.attributes['dra.example.com'].name", 4),
            ("device.attributes['dra.example.com']['name']", 4),
            ("cel.bind(dra, device.attributes['dra.example.com'], dra.name)", 15),
            ("device.attributes['dra.example.com'].name > 0", 5),
            ("device.attributes['dra.example.com'].name == 'fish'", 5),
            (
                "device.attributes['dra.example.com'].name.isGreaterThan(semver('v0.0.1', true)) && isSemver('v1.0.0', true)",
                7,
            ),
            (
                "'name' in device.capacity['dra.example.com'] && device.capacity['dra.example.com'].name.isGreaterThan(quantity('1Ki'))",
                10,
            ),
            (
                "!('name' in device.capacity['dra.example.com']) || device.capacity['dra.example.com'].name.isGreaterThan(quantity('1Ki'))",
                11,
            ),
            ("device.attributes.exists_one(x, x == 'dra.example.com')", 164),
            ("device.attributes['dra.example.com'].exists_one(x, x == 'services')", 133),
            ("device.attributes['dra.example.com'].services.split('example').size() >= 2", 19),
            ("device.attributes['dra.example.com'].services.matches('[^a]?sym')", 18),
            ("device.capacity['dra.example.com'].exists_one(x, x == 'memory')", 133),
            ("device.allowMultipleAllocations == true", 3),
        ] {
            let program = Program::compile(text, &environment()).unwrap();
            assert_eq!(program.cost(&DEVICE), cost, "{text}");
        }
    }
}
