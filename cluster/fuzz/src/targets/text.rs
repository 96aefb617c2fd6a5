//! Selectors and quantities: texts of clients that are read into values.

use kedge_api::quantity::Quantity;
use kedge_api::selector::{FieldSelector, Selector};

use crate::texts;

pub fn label_selector(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Selector::parse(&text) {
        Ok(selector) => {
            // Terms have no order, and blanks between them no meaning.
            let spaced = Selector::parse(&format!(" {text} "));
            assert_eq!(spaced.as_ref(), Ok(&selector), "{text:?}");
            let labels = std::collections::BTreeMap::from([("a".to_owned(), "b".to_owned())]);
            let _matches = selector.matches(&labels);
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}

pub fn label_selector_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "a=b,c==d,e!=f",
        "a in (x,y),b notin (z)",
        "a,!b",
        "e.com/a>5,b<3",
        "in in (in),notin notin (notin)",
        "a in (),a=",
        " a = b , c ",
        "a in (",
    ])
}

pub fn field_selector(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(selector) = FieldSelector::parse(&text) else { return };
    let escape = |value: &str| value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
    let terms: Vec<String> = selector
        .terms
        .iter()
        .map(|term| format!("{}{}{}", term.field, if term.equal { "=" } else { "!=" }, escape(&term.value)))
        .collect();
    assert_eq!(FieldSelector::parse(&terms.join(",")).as_ref(), Ok(&selector), "{text:?}");
}

pub fn field_selector_seeds() -> Vec<Vec<u8>> {
    texts(&["metadata.name=a", "spec.nodeName!=n,status.phase==Running", "a=\\,\\=\\\\,b=", ",,", "a=b=c"])
}

pub fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(amount) = text.parse::<Quantity>() else { return };
    // More than upstream's whole numbers hold has texts that say less than they do.
    if amount.value() == i64::MAX || amount.value() == i64::MIN {
        return;
    }
    let shown = amount.to_string();
    let again = shown.parse::<Quantity>();
    assert!(again.is_ok(), "{text:?} is shown as {shown:?}");
    let Ok(again) = again else { return };
    assert_eq!((again, again.to_string()), (amount, shown), "{text:?}");
    let double = amount + amount;
    assert_eq!((double - amount, double.is_zero()), (amount, amount.is_zero()), "{text:?}");
    assert!(amount <= Quantity::from_units(amount.value()), "{text:?}");
    let _shown = (double.to_string(), amount.value(), amount.as_f64());
}

pub fn quantity_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "1",
        "100m",
        "1.5Gi",
        "1e3",
        "-0.1n",
        "1E-9",
        "9223372036854775807",
        "0.0000000001Ki",
        "+.5Ki",
        "12e6",
        "100E",
        "1Ei",
        "1e-400",
    ])
}
