use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use crate::{Environment, Failure, Program, Type, Value, Variables};

fn environment() -> Environment {
    let fields = [
        ("a", Type::Int),
        ("s", Type::String),
        ("l", Type::list(Type::Int)),
        ("m", Type::map(Type::String, Type::String)),
    ];
    let fields: BTreeMap<String, Type> = fields.into_iter().map(|(name, of)| (name.to_owned(), of)).collect();
    Environment::default()
        .with("self", Type::object("object", fields))
        .with("n", Type::Int)
        .with("any", Type::Dyn)
        .with_bindings()
}

fn run(text: &str) -> Result<Value, String> {
    let program = Program::compile(text, &environment()).map_err(|e| e.to_string())?;
    let this = Value::of_json(&json!({"a": 1, "s": "text", "l": [1, 2, 3], "m": {"k": "v"}}));
    let variables = Variables::default()
        .with("self", this)
        .with("n", Value::Int(7))
        .with("any", Value::of_json(&json!({"x": [1, 2.5, "y"]})));
    program.evaluate(&variables, &mut 1_000_000).map_err(|e| e.to_string())
}

#[test]
fn expressions_mean_what_the_language_says() {
    for text in [
        "self.a == 1 && self.s == 'text' && n > 6",
        "1 + 2 * 3 == 7 && -3 % 2 == -1 && 7 / 2 == 3",
        "!(true && false) || false",
        "n == 7 ? true : false",
        "'a' + \"b\" == 'ab' && 'x' < 'y' && r'\\d' == '\\\\d' && b'ab' == bytes('ab')",
        "has(self.a) && !has(self.m.nope) && has(self.m.k)",
        "1 in self.l && !(9 in self.l) && 'k' in self.m && self.m['k'] == 'v'",
        "self.l.all(x, x > 0) && self.l.exists(x, x == 2) && self.l.exists_one(x, x == 3) && !self.l.exists_one(x, x > 1)",
        "self.l.map(x, x * 2) == [2, 4, 6] && self.l.filter(x, x > 1) == [2, 3] && self.l.map(x, x > 1, x * 10) == [20, 30]",
        "self.m.all(k, k == 'k') && {'a': 1}.exists(k, v, v == 1) && [5].all(i, v, i == 0 && v == 5)",
        "{'a': 1, 'b': 2}.transformMap(k, v, v + 1) == {'a': 2, 'b': 3} && [1, 2].transformList(i, v, i + v) == [1, 3]",
        "size('\u{e4}\u{f6}') == 2 && size(self.l) == 3 && self.m.size() == 1 && [].size() == 0",
        "1.5 + 1.5 == 3.0 && 1 < 1.5 && 2u + 1u == 3u && 0x10 == 16 && 1e3 == 1000.0",
        "int('4') == 4 && string(4) == '4' && double('1.5') == 1.5 && uint(3) == 3u && bool('true')",
        "duration('1h30m').getMinutes() == 90 && string(duration('90s')) == '90s'",
        "timestamp('2026-01-02T03:04:05Z').getFullYear() == 2026 && timestamp('2026-01-02T03:04:05Z').getHours('+01:00') == 4",
        "timestamp('2026-01-02T00:00:00Z') - timestamp('2026-01-01T00:00:00Z') == duration('24h')",
        "'hello'.substring(1, 3) == 'el' && 'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && 'abc'.charAt(1) == 'b'",
        "'abcabc'.indexOf('b') == 1 && 'abcabc'.lastIndexOf('b') == 4 && 'aXb'.lowerAscii() == 'axb' && ' a '.trim() == 'a'",
        "'aab'.replace('a', 'x') == 'xxb' && 'aab'.replace('a', 'x', 1) == 'xab'",
        "'%s is %d, %.2f, %x'.format(['a', 3, 1.5, 255]) == 'a is 3, 1.50, ff'",
        "'abc'.matches('^a.c$') && 'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'a1'.find('[0-9]') == '1'",
        "[1, 2].isSorted() && [1, 2].sum() == 3 && [3, 1].min() == 1 && [3, 1].max() == 3 && [1, 2].indexOf(2) == 1",
        "[[1], [2, 3], []].flatten() == [1, 2, 3] && [dyn(1), dyn([dyn(2), dyn([dyn(3), dyn([4])])])].flatten(2) == [1, 2, 3, dyn([4])] && [1, 2, 1].distinct() == [1, 2]",
        "[duration('2s'), duration('1s')].sort()[0] == duration('1s') && [3, 1, 2].sort().reverse() == [3, 2, 1]",
        "{'a': 'b', 'c': 'd'}.transformMapEntry(k, v, {v: k}) == {'b': 'a', 'd': 'c'}",
        "[1, 2].transformMapEntry(i, v, v > 1, {v: i}) == {2: 1} && cel.bind(lists, [1], lists.size()) == 1",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && sets.intersects([1], [1, 2])",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('500m').add(quantity('500m')) == quantity('1') && isQuantity('1k')",
        "quantity('2').asInteger() == 2 && !quantity('1500m').isInteger() && quantity('-1').sign() == -1",
        "url('https://e.com:80/p?a=1&a=2').getHost() == 'e.com:80' && url('https://[::1]:80/').getHostname() == '::1' && !isURL('x y')",
        "url('https://e.com/?a=1&a=2').getQuery() == {'a': ['1', '2']} && url('/a%20b').getEscapedPath() == '/a%20b'",
        "ip('10.0.0.1').family() == 4 && isIP('::1') && ip('127.0.0.1').isLoopback() && ip.isCanonical('::1') && !isIP('1')",
        "cidr('10.0.0.0/8').containsIP('10.1.1.1') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.0.0/8').masked() == cidr('10.0.0.0/8')",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').compareTo(semver('1.0.0')) == -1 && !isSemver('1')",
        "!format.dns1123Label().validate('ok').hasValue() && format.named('dns1123Label').value().validate('No').hasValue()",
        "optional.of(1).value() == 1 && !optional.none().hasValue() && self.?a.orValue(5) == 1 && self.m.?x.orValue('d') == 'd'",
        "self.m[?'k'].hasValue() && optional.of(2).optMap(x, x + 1).value() == 3 && [?optional.none(), ?optional.of(1)].size() == 1",
        "cel.bind(x, 2, x + x) == 4",
        "self.l.first() == optional.of(1) && self.l.last().value() == 3 && ![].first().hasValue()",
        "optional.unwrap([optional.of(4), optional.none()]) == [4] && [optional.of(1)].unwrapOpt() == [1]",
        "type(1) == int && type('a') != int && dyn(1) == 1.0",
        "any.x[1] == 2.5 && any.x[2] == 'y'",
        "[dyn(1), 'a', null].size() == 3 && {1: 'a'}[1] == 'a'",
        "true || 1 / 0 == 1",
        "[0, 1].exists(x, 1 / x == 1)",
    ] {
        assert_eq!(run(text), Ok(Value::Bool(true)), "{text}");
    }
}

/// Those that upstream itself checks.
#[test]
fn lists_are_taken_apart_and_put_in_order() {
    for text in [
        "lists.range(4) == [0,1,2,3]",
        "lists.range(0) == []",
        "[5,1,2,3].reverse() == [3,2,1,5]",
        "[].reverse() == []",
        "[1].reverse() == [1]",
        "['are', 'you', 'as', 'bored', 'as', 'I', 'am'].reverse() == ['am', 'I', 'as', 'bored', 'as', 'you', 'are']",
        "[false, true, true].reverse().reverse() == [false, true, true]",
        "[1,2,3,4].slice(0, 4) == [1,2,3,4]",
        "[1,2,3,4].slice(0, 0) == []",
        "[1,2,3,4].slice(1, 1) == []",
        "[1,2,3,4].slice(4, 4) == []",
        "[1,2,3,4].slice(1, 3) == [2, 3]",
        "dyn([]).flatten() == []",
        "dyn([1,2,3,4]).flatten() == [1,2,3,4]",
        "[].sort() == []",
        "[1].sort() == [1]",
        "[4, 3, 2, 1].sort() == [1, 2, 3, 4]",
        r#"["d", "a", "b", "c"].sort() == ["a", "b", "c", "d"]"#,
        "[].sortBy(e, e) == []",
        r#"["a"].sortBy(e, e) == ["a"]"#,
        "[-3, 1, -5, -2, 4].sortBy(e, -(e * e)) == [-5, 4, -3, -2, 1]",
        "[-3, 1, -5, -2, 4].map(e, e * 2).sortBy(e, -(e * e)) == [-10, 8, -6, -4, 2]",
        "lists.range(3).sortBy(e, -e) == [2, 1, 0]",
        r#"["a", "c", "b", "first"].sortBy(e, e == "first" ? "" : e) == ["first", "a", "b", "c"]"#,
        "[{'name': 'foo'}, {'name': 'bar'}, {'name': 'baz'}].sortBy(e, e.name) == [{'name': 'bar'}, {'name': 'baz'}, {'name': 'foo'}]",
        "[].distinct() == []",
        "[1].distinct() == [1]",
        "[-2, 5, -2, 1, 1, 5, -2, 1].distinct() == [-2, 5, 1]",
        "['c', 'a', 'a', 'b', 'a', 'b', 'c', 'c'].distinct() == ['c', 'a', 'b']",
        "[[1], [1], [2]].distinct() == [[1], [2]]",
        "[{'name': 'a'}, {'name': 'b'}, {'name': 'a'}].distinct() == [{'name': 'a'}, {'name': 'b'}]",
        "[[1],[2],[3,4]].flatten() == [1,2,3,4]",
    ] {
        assert_eq!(run(text), Ok(Value::Bool(true)), "{text}");
    }
}

#[test]
fn not_everyone_may_bind() {
    let wrong = Program::compile("cel.bind(x, 1, x)", &Environment::default()).unwrap_err();
    assert!(wrong.0.starts_with("ERROR: <input>:1:1: undeclared reference to 'cel' (in container '')\n"), "{wrong}");
}

#[test]
fn errors_are_cel_gos() {
    for (text, message) in [
        ("self.nope > 1", "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope > 1\n | ....^"),
        ("n.x", "ERROR: <input>:1:2: type 'int' does not support field selection\n | n.x\n | .^"),
        ("foo", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo\n | ^"),
        (
            "n + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | n + 'a'\n | ..^",
        ),
        (
            "n.startsWith('a')",
            "ERROR: <input>:1:13: found no matching overload for 'startsWith' applied to 'int.(string)'\n | n.startsWith('a')\n | ............^",
        ),
        ("foo(1)", "ERROR: <input>:1:4: undeclared reference to 'foo' (in container '')\n | foo(1)\n | ...^"),
        (
            "n.all(x, true)",
            "ERROR: <input>:1:1: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | n.all(x, true)\n | ^",
        ),
        (
            "n ==\n 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, string)'\n | n ==\n | ..^",
        ),
        (
            "n +",
            "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | n +\n | ...^",
        ),
        ("n n", "ERROR: <input>:1:3: Syntax error: extraneous input 'n' expecting <EOF>\n | n n\n | ..^"),
        (
            "[1].flatten() == [1]",
            "ERROR: <input>:1:12: found no matching overload for 'flatten' applied to 'list(int).()'\n | [1].flatten() == [1]\n | ...........^",
        ),
        (
            "{'a': 1}.sortBy(e, e)",
            "ERROR: <input>:1:1: sortBy can only be applied to a list, identifier, comprehension, call or select expression\n | {'a': 1}.sortBy(e, e)\n | ^",
        ),
        ("[1].map(2, 1)", "ERROR: <input>:1:9: argument is not an identifier\n | [1].map(2, 1)\n | ........^"),
        (
            "[1].all(x, x, true)",
            "ERROR: <input>:1:12: duplicate variable name: x\n | [1].all(x, x, true)\n | ...........^",
        ),
        ("(n", "ERROR: <input>:1:3: Syntax error: missing ')' at '<EOF>'\n | (n\n | ..^"),
    ] {
        assert_eq!(run(text), Err(message.to_owned()), "{text}");
    }
    for (text, message) in [
        ("1 / (n - 7)", "division by zero"),
        ("9223372036854775807 + n", "integer overflow"),
        ("self.l[5]", "index out of bounds: 5"),
        ("self.m['x']", "no such key: x"),
        ("int('x')", "type conversion error from 'string' to 'int': x"),
        ("any.x[2] + 1", "no such overload"),
        ("self.l.slice(2, 1)", "cannot slice(2, 1), start index must be less than or equal to end index"),
        ("self.l.slice(-1, 1)", "cannot slice(-1, 1), negative indexes not supported"),
        ("self.l.slice(0, 9)", "cannot slice(0, 9), list is length 3"),
        ("dyn([1]).flatten(-1)", "level must be non-negative"),
        ("any.x.sort()", "list elements must have the same type"),
        ("[1, 1].transformMapEntry(i, v, {v: i})", "insert failed: key 1 already exists"),
        ("lists.range(9223372036854775807)", "operation cancelled: actual cost limit exceeded"),
        ("optional.none().value()", "optional.none() dereference"),
    ] {
        assert_eq!(run(text), Err(message.to_owned()), "{text}");
    }
}

#[test]
fn what_costs_too_much_ends() {
    let program =
        Program::compile("self.l.all(x, self.l.all(y, self.l.all(z, x + y + z > 0)))", &environment()).unwrap();
    let list: Vec<Value> = (1..200).map(Value::Int).collect();
    let this = Value::from(BTreeMap::from([(crate::value::Key::String("l".into()), Value::from(list))]));
    let variables = Variables::default().with("self", this);
    let mut budget = 10_000;
    assert_eq!(program.evaluate(&variables, &mut budget), Err(Failure::OverBudget));
    assert_eq!(budget, 0);
}

#[test]
fn little_text_makes_nothing_large() {
    // Values that hold the one before twice: `inner` sees the last of `count`.
    let doubled = |count: usize, inner: &str| {
        let binds = (1..count).map(|n| format!("cel.bind(v{n}, [v{0}, v{0}], ", n - 1)).collect::<String>();
        format!("cel.bind(v0, [1, 1], {binds}{inner}{}", ")".repeat(count))
    };
    let environment =
        Environment::default().with_bindings().with("big", Type::String).with("many", Type::list(Type::Int));
    let many: Vec<Value> = (0..1000).map(Value::Int).collect();
    let variables = Variables::default().with("big", "x".repeat(1 << 20).into()).with("many", many.into());
    for text in [
        doubled(50, "v49 == v49"),
        doubled(50, "[v49] == [v49]"),
        doubled(50, "v49 in [v49]"),
        doubled(50, "[v49].indexOf(v49) == 0"),
        doubled(50, "sets.contains([v49], [v49])"),
        doubled(50, "'%s'.format([v49])"),
        doubled(50, "{'a': v49}"),
        doubled(50, "optional.of(v49)"),
        "big.replace('x', big)".to_owned(),
        "big.replace('', big)".to_owned(),
        "big.split('')".to_owned(),
        "big.findAll('x')".to_owned(),
        "many.map(n, big).join('')".to_owned(),
        "many.map(n, string(n)).join(big)".to_owned(),
        "'%s'.format([many.map(n, big)])".to_owned(),
        "many.all(n, big.charAt(n) == 'x')".to_owned(),
        "many.all(n, big.substring(n).size() > 0)".to_owned(),
        "many.map(n, [big + big])".to_owned(),
        "many.all(n, many.map(m, m) + many != [])".to_owned(),
    ] {
        let program = Program::compile(&text, &environment).unwrap();
        assert_eq!(program.evaluate(&variables, &mut 1_000_000), Err(Failure::OverBudget), "{text}");
    }
    for fine in [
        doubled(10, "v9 == v9"),
        "many.map(n, string(n)).join(',').size() > 3000".to_owned(),
        "big == big && big + 'y' != big && big.replace('x', 'y') != big".to_owned(),
        "many.all(n, many.exists(m, m == 0))".to_owned(),
        "many.all(n, n in many)".to_owned(),
    ] {
        let program = Program::compile(&fine, &environment).unwrap();
        assert_eq!(program.evaluate(&variables, &mut 10_000_000), Ok(Value::Bool(true)), "{fine}");
    }
}

#[test]
fn what_overflows_is_an_error() {
    let quantity = |count: usize| {
        let binds = (1..count).map(|n| format!("cel.bind(q{n}, q{0}.add(q{0}), ", n - 1)).collect::<String>();
        format!("cel.bind(q0, quantity('-9Ei'), {binds}'%s'.format([q{}]){}", count - 1, ")".repeat(count))
    };
    assert!(run(&quantity(50)).is_ok());
    for text in [
        "timestamp('2026-01-01T00:00:00Z').getHours('99999999:00')",
        "timestamp('2026-01-01T00:00:00Z').getHours('0:99999999')",
        "[dyn('a'), 'b'].sum()",
    ] {
        assert!(run(text).is_err(), "{text}");
    }
}

#[test]
fn nesting_is_bounded() {
    for deep in [
        "(".repeat(100_000),
        format!("{}1{}", "(".repeat(240), ")".repeat(240)),
        "!".repeat(5_000),
        format!("1{}", "+1".repeat(5_000)),
        format!("n{}", ".x".repeat(5_000)),
        "[".repeat(5_000),
        "1?".repeat(5_000),
    ] {
        let _answer = run(&deep);
    }
    assert!(run(&format!("{}n{}", "(".repeat(100), ")".repeat(100))).is_ok());
    assert!(run(&format!("{}n{}", "(".repeat(300), ")".repeat(300))).unwrap_err().contains("recursion limit"));
    // Chains of conditions are long in practice, and no deeper than they must be.
    assert_eq!(run(&format!("n == 7{}", " && n < 9 || n > 1000".repeat(500))), Ok(Value::Bool(true)));
}

proptest! {
    /// Whatever is written: an answer or an error, never a panic.
    #[test]
    fn nothing_panics(text in "[a-z0-9'\"(){}\\[\\].,?:+*/%<>=!&|\\\\ \u{e4}-]{0,40}") {
        let _answer = run(&text);
    }

    #[test]
    fn sense_and_nonsense_alike(words in prop::collection::vec(prop::sample::select(vec![
        "self", ".a", ".l", "(", ")", "[", "]", "x", ",", "all(x,", "exists(", "has(", "+", "-", "&&", "?", ":", "1", "'s'", "==", "in",
        ".map(", "{", "}", "0", ".size()", "optional.of(", ".?", "\"", "1.5", "n", "!", "/", "%",
    ]), 0..24)) {
        let _answer = run(&words.join(" "));
        let _answer = run(&words.concat());
    }

    /// An estimate is never below what an evaluation costs.
    #[test]
    fn estimates_are_upper_bounds(count in 0_usize..20, text in "[a-z]{0,30}") {
        use crate::Sizes;
        let source = "self.l.all(x, x.startsWith('a') || x.contains('b')) && self.l.map(x, x + 'c').exists(y, y == 'd')";
        let fields = BTreeMap::from([("l".to_owned(), Type::list(Type::String))]);
        let program = Program::compile(source, &Environment::default().with("self", Type::object("object", fields))).unwrap();
        let element = Sizes { most: 30, ..Sizes::default() };
        let list = Sizes { most: 20, element: Some(element.into()), ..Sizes::default() };
        let this = Sizes { most: 1, fields: BTreeMap::from([("l".to_owned(), list)]), ..Sizes::default() };
        let estimate = program.cost(&BTreeMap::from([("self".to_owned(), this)]));
        let list: Vec<Value> = (0..count).map(|_| Value::from(text.as_str())).collect();
        let this = Value::from(BTreeMap::from([(crate::value::Key::String("l".into()), Value::from(list))]));
        let mut budget = 1_000_000;
        program.evaluate(&Variables::default().with("self", this), &mut budget).unwrap();
        prop_assert!(1_000_000 - budget <= estimate);
    }
}

#[test]
fn objects_are_named_as_their_place() {
    let environment = environment().with("Object", Type::Dyn).with("JSONPatch", Type::Dyn);
    for (text, wrong) in [
        ("Object{spec: Object.spec{l: [Object.spec.l{a: 1}], m: {'k': Object.spec.m{}}}}", None),
        ("Object{spec: any ? Object.spec{} : Object.spec{}}", None),
        ("Object{spec: Object.specx{}}", Some(("Object.specx", "Object.spec"))),
        ("Object{spec: Object.spec{l: [1, 2].map(i, Object.spec.m{})}}", Some(("Object.spec.m", "Object.spec.l"))),
        ("[JSONPatch{value: Object.spec{a: Object.spec.a{}}}]", None),
        ("[JSONPatch{value: Object.spec{a: Object.a{}}}]", Some(("Object.a", "Object.spec.a"))),
    ] {
        let found = Program::compile(text, &environment).unwrap().misnamed();
        assert_eq!(found.as_ref().map(|(found, wanted)| (found.as_str(), wanted.as_str())), wrong, "{text}");
    }
}
