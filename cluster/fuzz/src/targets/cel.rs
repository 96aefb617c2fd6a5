//! Expressions: read, checked, estimated and evaluated.

use std::collections::BTreeMap;

use kedge_cel::{Environment, Program, Sizes, Type, Value, Variables};
use serde_json::json;

use crate::texts;

const BUDGET: u64 = 100_000;

fn environment() -> Environment {
    let fields = [
        ("a", Type::Int),
        ("s", Type::String),
        ("l", Type::list(Type::Int)),
        ("m", Type::map(Type::String, Type::String)),
        ("b", Type::Bool),
    ];
    let fields: BTreeMap<String, Type> = fields.into_iter().map(|(name, of)| (name.to_owned(), of)).collect();
    let this = Type::object("object", fields);
    Environment::default()
        .with("self", this.clone())
        .with("oldSelf", Type::optional(this))
        .with("any", Type::Dyn)
        .with_bindings()
}

fn variables() -> Variables {
    let long = "text ".repeat(200);
    let this = json!({"a": 7, "s": long, "l": (0..50).collect::<Vec<_>>(), "m": {"k": "v", "": "\u{e9}"}, "b": true});
    let any = json!({"x": [1, 2.5, "y", null, {"z": []}], "n": i64::MIN, "t": "2026-01-02T03:04:05Z"});
    let this = Value::of_json(&this);
    Variables::default()
        .with("self", this.clone())
        .with("oldSelf", Value::optional(Some(this)))
        .with("any", Value::of_json(&any))
}

pub fn cel(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let program = match Program::compile(text, &environment()) {
        Ok(program) => program,
        Err(refused) => return assert!(!refused.to_string().is_empty()),
    };
    let sizes = Sizes { most: 1000, ..Sizes::default() };
    let _most = program.cost(&BTreeMap::from([("self".to_owned(), sizes)]));
    let variables = variables();
    let run = |budget: u64| {
        let mut left = budget;
        let result = program.evaluate(&variables, &mut left);
        assert!(left <= budget);
        // Shown, since what is no number is not equal to itself.
        (format!("{result:?}"), budget - left)
    };
    let (result, cost) = run(BUDGET);
    assert_eq!(run(BUDGET), (result.clone(), cost), "{text}");
    // Whoever has enough for it gets it, and who has not does not.
    if cost < BUDGET {
        assert_eq!(run(cost), (result, cost), "{text}");
    }
    if cost > 0 && cost < BUDGET {
        assert!(run(cost - 1).0.contains("OverBudget"), "{text}");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "self.a == 1 && self.s == 'text' || self.b",
        "self.l.all(x, x > 0) && self.l.exists(x, x == 2) && self.l.exists_one(i, x, x == 3)",
        "self.l.map(x, x * 2).filter(x, x > 1).size() == 3 ? 'a' : \"b\"",
        "self.m.all(k, k.startsWith('k')) && has(self.m.k) && !has(self.m.nope)",
        "{'a': 1, 'b': 2}.transformMap(k, v, v + 1)['a'] == 2 && [1, 2].transformList(i, v, i + v) == [1, 3]",
        "duration('1h30m').getMinutes() == 90 && timestamp('2026-01-02T03:04:05Z').getHours('+01:00') == 4",
        "timestamp('2026-01-02T00:00:00Z') - timestamp('2026-01-01T00:00:00Z') == duration('24h')",
        "'hello'.substring(1, 3) + 'a,b'.split(',')[0] + ['a', 'b'].join('-') + 'abc'.charAt(1)",
        "self.s.replace('a', 'x', 1).lowerAscii().trim().indexOf('b', 1) + 'abc'.lastIndexOf('b')",
        "'%s is %d, %.2f, %x %e %b %o'.format(['a', 3, 1.5, 255, 1.0, true, 8])",
        "'abc'.matches('^a.c$') && 'a1b22'.findAll('[0-9]+', 1) == ['1'] && 'a1'.find('[0-9]') == '1'",
        "[1, 2].isSorted() && [1, 2].sum() == 3 && [3, 1].min() == 1 && [3, 1].max() == 3 && [1, 2].indexOf(2) == 1",
        "[[1], [2, 3]].flatten().sort().reverse().slice(0, 2).distinct() == lists.range(2) && [2, 1].sortBy(e, -e)[0] == 2",
        "{'a': 'b'}.transformMapEntry(k, v, k != v, {v: k}).size() == 1",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && sets.intersects([1], [1, 2])",
        "quantity('1Gi').add(quantity('1G')).sub(5).isGreaterThan(quantity('1')) && isQuantity('1k') && quantity('1').asInteger() == 1",
        "url('https://[::1]:80/p?a=1&a=2').getQuery() == {'a': ['1', '2']} && isURL('/x')",
        "ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.1.1') && cidr('::/0').masked().prefixLength() == 0",
        "semver('1.2.3-rc.1', true).isLessThan(semver('1.10.0')) && isSemver('v1', false)",
        "format.dns1123Label().validate('ok').hasValue() || format.named('uri').value().validate('x').hasValue()",
        "optional.of(1).or(optional.none()).orValue(2) == 1 && self.?m.x.orValue('d') == 'd' && any.?x[?3].hasValue()",
        "cel.bind(x, [1, 1], cel.bind(y, [x, x], y == y))",
        "[?optional.none(), ?optional.of(1)].size() == 1 && {?'a': oldSelf}.size() == 1 && oldSelf.optMap(o, o.a).value() == 7",
        "type(1) == int && dyn(1) == 1.0 && 1u + 2u == 3u && 0x10 == 16 && 1e3 > -9223372036854775808 && b'ab' == bytes('ab')",
        "any.x[1] + any.n - 1 / int(any.t) % 3",
        "string(timestamp(0)) + string(duration('-1.5s')) + string(b'\\xff') + r'\\d' + '''a\n'''",
        // Found once.
        "timestamp('2026-01-01T00:00:00Z').getHours('99999999:00')",
    ])
}
