//! The expressions that choose a device, by what its driver says of it.

use std::collections::BTreeMap;

use kedge_cel::{Environment, Program, Type};

use crate::errors::{Errors, Path};

fn environment() -> Environment {
    let by_domain = |of: Type| Type::map(Type::String, Type::map(Type::String, of));
    let fields = BTreeMap::from([
        ("driver".to_owned(), Type::String),
        ("attributes".to_owned(), by_domain(Type::Dyn)),
        ("capacity".to_owned(), by_domain(Type::Library("kubernetes.Quantity"))),
        ("allowMultipleAllocations".to_owned(), Type::Bool),
    ]);
    Environment::default().with("device", Type::object("kubernetes.DRADevice", fields))
}

/// An attribute's type is not known before there is one.
pub(super) fn validate(text: &str, path: &Path<'_>, errors: &mut Errors) {
    let wrong = match Program::compile(text, &environment()) {
        Err(error) => format!("compilation failed: {error}"),
        Ok(program) => match program.result() {
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
    }
}
