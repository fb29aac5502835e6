//! Every property type and every constraint: what is accepted, what is refused, with which code
//! and at which field.
//!
//! Values and constraints are JSON with `'` for `"`. A refused row is `value => code`, with the
//! place below the property where that is not the property itself (`code .amount`, `code [2]`),
//! and all violations in order where there are several (`code, code [1]`).

use oms::domain::class::{ClassDefinition, EffectiveClass};
use oms::domain::property::KINDS;
use oms::domain::refusal::{Refusal, Violation};
use serde_json::{Map, Value, json};

/// Constraints, accepted values, refused values.
type Group = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

#[rustfmt::skip]
const STRING: &[Group] = &[
    ("{}",
        &["''", "'x'", "'  '", "'ünï💡'", "'\\n\\t'", "'null'"],
        &["1 => type", "true => type", "null => type", "[] => type", "{} => type", "'a\\u0000b' => characters"]),
    ("{'min_length': 2, 'max_length': 4}",
        &["'ab'", "'abcd'", "'üüüü'", "'💡💡'"],
        &["'' => min_length", "'a' => min_length", "'abcde' => max_length", "'💡' => min_length"]),
    ("{'minLength': 1, 'maxLength': 1}", &["'a'"], &["'' => min_length", "'ab' => max_length"]),
    ("{'pattern': '^[A-Z]{2}-\\\\d+$'}",
        &["'AB-1'", "'ZZ-0042'"],
        &["'ab-1' => pattern", "'AB-' => pattern", "'xAB-1' => pattern", "'' => pattern"]),
    ("{'pattern': '^\\\\w{3,50}$'}", &["'ünïcode_1'"], &["'ab' => pattern", "'a-b' => pattern"]),
    ("{'pattern': 'ell'}", &["'hello'", "'ell'"], &["'help' => pattern"]),
    ("{'pattern': '^(a+)+$'}", &["'aaaa'"], &["'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab' => pattern"]),
    ("{'case': 'lower'}", &["'abc'", "'a1-ß'", "''"], &["'aBc' => case", "'Ä' => case"]),
    ("{'case': 'upper'}", &["'ABC'", "'A1-'", "''"], &["'aBC' => case", "'ä' => case"]),
    ("{'trim': true}",
        &["''", "'a b'", "'a'"],
        &["' a' => trim", "'a ' => trim", "'a\\n' => trim", "'\\u2003a' => trim", "' ' => trim"]),
    ("{'trim': false}", &["' a '"], &[]),
    ("{'whitelist': ['red', 'green']}", &["'red'", "'green'"], &["'Red' => whitelist", "'' => whitelist"]),
    ("{'blacklist': ['admin', 'root']}", &["'ann'", "'Admin'"], &["'admin' => blacklist", "'root' => blacklist"]),
    ("{'format': 'date'}", &["'2024-02-29'"], &["'2023-02-29' => format", "'29.2.2024' => format"]),
    ("{'format': 'datetime'}", &["'2024-02-29T00:00:00Z'"], &["'2024-02-29' => format"]),
    ("{'format': 'date-time'}", &["'2024-02-29T00:00:00+01:00'"], &["'now' => format"]),
    ("{'format': 'uuid'}", &["'00000000-0000-0000-0000-000000000000'"], &["'0' => format"]),
    ("{'format': 'email'}", &["'a@example.com'"], &["'a' => format", "'A <a@example.com>' => format"]),
    ("{'format': 'url'}", &["'ftp://example.com/x'"], &["'example.com' => format"]),
    ("{'format': 'uri'}", &["'https://example.com'"], &["'/x' => format"]),
    ("{'format': 'ip'}", &["'::1'", "'127.0.0.1'"], &["'localhost' => format"]),
    ("{'format': 'ipv4'}", &["'127.0.0.1'"], &["'::1' => format"]),
    ("{'format': 'ipv6'}", &["'::1'"], &["'127.0.0.1' => format"]),
    ("{'format': 'hostname'}",
        &["'localhost'", "'a-b.example.com'", "'1.2'"],
        &["'' => format", "'-a' => format", "'a-' => format", "'a..b' => format", "'a_b' => format", "'ü.de' => format"]),
    ("{'format': 'slug'}", &["'a'", "'a-1-b'"], &["'' => format", "'A' => format", "'a--b' => format", "'-a' => format"]),
    ("{'format': 'alpha'}", &["'aÄ'"], &["'' => format", "'a1' => format"]),
    ("{'format': 'alphanumeric'}", &["'a1ü'"], &["'' => format", "'a b' => format"]),
    ("{'format': 'digits'}", &["'007'"], &["'' => format", "'1.5' => format", "'٣' => format"]),
    ("{'min_length': 3, 'case': 'lower', 'pattern': '^x', 'trim': true}",
        &["'xyz'"],
        &["'A ' => min_length, pattern, case, trim"]),
];

#[rustfmt::skip]
const INTEGER: &[Group] = &[
    ("{}",
        &["0", "-0", "1", "-1", "9007199254740993", "123456789012345678901234567890"],
        &["1.0 => type", "1.5 => type", "1e3 => type", "'1' => type", "true => type", "null => type", "[1] => type"]),
    ("{'min': 1, 'max': 10}", &["1", "10"], &["0 => min", "-5 => min", "11 => max", "1e1 => type"]),
    ("{'minimum': 9007199254740993}", &["9007199254740993"], &["9007199254740992 => min"]),
    ("{'maximum': 1e30}", &["1000000000000000000000000000000"], &["1000000000000000000000000000001 => max"]),
    ("{'exclusive_min': 0, 'exclusive_max': 3}", &["1", "2"], &["0 => exclusive_min", "3 => exclusive_max"]),
    ("{'exclusiveMinimum': 0}", &["1"], &["0 => exclusive_min"]),
    ("{'exclusiveMaximum': 0}", &["-1"], &["0 => exclusive_max"]),
    ("{'multiple_of': 5}", &["0", "5", "-10", "1000000000000000000000000000005"], &["1 => multiple_of", "-7 => multiple_of"]),
    ("{'min': 10, 'multiple_of': 4}", &["12"], &["9 => min, multiple_of"]),
];

#[rustfmt::skip]
const NUMBER: &[Group] = &[
    ("{}",
        &["0", "1.5", "-2.50", "1e3", "1E-3", "1.7976931348623157e308", "5e-324", "0.1000000000000000055511151231257827"],
        &["'1.5' => type", "false => type", "null => type", "1e401 => range", "1e-500 => range", "1e99999999999999999999 => range"]),
    ("{'min': 0.1, 'max': 0.3}", &["0.1", "0.10", "0.3", "1e-1"], &["0.09999999999999999999 => min", "0.30000000000000000001 => max"]),
    ("{'minimum': -1e-9}", &["-1e-9", "0"], &["-1.0000001e-9 => min"]),
    ("{'exclusive_min': 0}", &["1e-300"], &["0 => exclusive_min", "0.00 => exclusive_min", "-0 => exclusive_min", "-1 => exclusive_min"]),
    ("{'exclusive_max': 100}", &["99.999"], &["100 => exclusive_max", "1e2 => exclusive_max"]),
    ("{'multiple_of': 0.1}", &["0.3", "1", "1e100"], &["0.35 => multiple_of"]),
    ("{'multipleOf': 2.5}", &["5", "-7.5"], &["4 => multiple_of"]),
    ("{'precision': 2}", &["1", "1.25", "1.2500", "1e-2", "100e-2"], &["1.255 => precision", "1e-3 => precision"]),
    ("{'precision': 0}", &["3", "3.0"], &["3.5 => precision"]),
];

#[rustfmt::skip]
const BOOLEAN: &[Group] = &[("{}", &["true", "false"], &["0 => type", "'true' => type", "null => type", "[] => type"])];

#[rustfmt::skip]
const DATE: &[Group] = &[
    ("{}",
        &["'2024-02-29'", "'0001-01-01'", "'9999-12-31'"],
        &["'2023-02-29' => type", "'2024-13-01' => type", "'2024-00-01' => type", "'2024-1-1' => type", "'20240101' => type",
          "'2024-01-01T00:00:00Z' => type", "'01/02/2024' => type", "'' => type", "20240101 => type", "null => type", "'२०२४-01-01' => type"]),
    ("{'min': '2020-01-01', 'max': '2020-12-31'}",
        &["'2020-01-01'", "'2020-12-31'"],
        &["'2019-12-31' => min", "'2021-01-01' => max"]),
    ("{'minimum': '2020-01-01'}", &["'2020-01-01'"], &["'2019-12-31' => min"]),
];

#[rustfmt::skip]
const DATETIME: &[Group] = &[
    ("{}",
        &["'2024-02-29T23:59:59Z'", "'2024-02-29t23:59:59z'", "'2024-01-01T00:00:00.123456789Z'", "'2024-01-01T00:00:00+05:30'",
          "'2024-01-01T00:00:00-08:00'", "'1969-07-20T20:17:40.5Z'", "'2016-12-31T23:59:60Z'"],
        &["'2024-01-01' => type", "'2024-01-01T00:00:00' => type", "'2024-01-01 00:00:00Z' => type", "'2024-01-01T24:00:00Z' => type",
          "'2024-01-01T00:60:00Z' => type", "'2023-02-29T00:00:00Z' => type", "'2024-01-01T00:00Z' => type", "'2024-01-01T00:00:00.Z' => type",
          "'2024-01-01T00:00:00+5:30' => type", "'2024-01-01T00:00:00+0530' => type", "'2024-01-01T00:00:00+24:00' => type",
          "'2024-01-01T00:00:00+01:00[Europe/Berlin]' => type", "'2024-01-01T00:00:00.1234567890Z' => type",
          "'' => type", "1704067200 => type", "null => type"]),
    ("{'min': '2024-01-01T00:00:00Z', 'max': '2024-01-02T00:00:00Z'}",
        &["'2024-01-01T00:00:00Z'", "'2024-01-01T01:00:00+01:00'", "'2024-01-02T00:00:00Z'"],
        &["'2024-01-01T00:59:59+01:00' => min", "'2024-01-02T00:00:00.000000001Z' => max"]),
];

#[rustfmt::skip]
const UUID: &[Group] = &[
    ("{}",
        &["'018f4b1c-0000-7000-8000-000000000000'", "'018F4B1C-0000-7000-8000-00000000000F'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
        &["'018f4b1c000070008000000000000000' => type", "'{018f4b1c-0000-7000-8000-000000000000}' => type",
          "'urn:uuid:018f4b1c-0000-7000-8000-000000000000' => type", "'018f4b1c-0000-7000-8000-00000000000g' => type",
          "'018f4b1-c0000-7000-8000-000000000000' => type", "'' => type", "7 => type", "null => type",
          "'00000000-0000-0000-0000-000000000000' => allow_nil"]),
    ("{'allow_nil': true, 'version': 4}", &["'00000000-0000-0000-0000-000000000000'"], &["'018f4b1c-0000-7000-8000-000000000000' => version"]),
    ("{'allowNil': true}", &["'00000000-0000-0000-0000-000000000000'"], &[]),
    ("{'version': 7}", &["'018f4b1c-0000-7000-8000-000000000000'"], &["'018f4b1c-0000-4000-8000-000000000000' => version"]),
    ("{'version': [1, 4]}",
        &["'018f4b1c-0000-1000-8000-000000000000'", "'018f4b1c-0000-4000-8000-000000000000'"],
        &["'018f4b1c-0000-7000-8000-000000000000' => version"]),
    ("{'variant': 'rfc4122'}",
        &["'018f4b1c-0000-7000-8000-000000000000'", "'018f4b1c-0000-7000-b000-000000000000'"],
        &["'018f4b1c-0000-7000-c000-000000000000' => variant", "'018f4b1c-0000-7000-0000-000000000000' => variant"]),
    ("{'variant': 'microsoft'}", &["'018f4b1c-0000-7000-c000-000000000000'"], &["'018f4b1c-0000-7000-8000-000000000000' => variant"]),
    ("{'variant': 'ncs', 'version': 4}", &["'018f4b1c-0000-4000-0000-000000000000'"], &["'018f4b1c-0000-1000-8000-000000000000' => version, variant"]),
];

#[rustfmt::skip]
const URL: &[Group] = &[
    ("{}",
        &["'https://example.com'", "'http://example.com:8080/a/b?c=d#e'", "'HTTPS://EXAMPLE.COM'", "'https://münchen.de/ä'", "'https://[::1]/'", "'http://127.0.0.1'"],
        &["'example.com' => type", "'//example.com' => type", "'/path' => type", "'https://' => type", "'https:///path' => type", "'http:example.com' => type",
          "'https://exa mple.com' => type", "' https://example.com' => type", "'https://example.com\\n' => type", "'https:\\\\\\\\example.com' => type",
          "'https://user:secret@example.com' => type", "'https://good.com@evil.com' => type", "'https://example.com:99999' => type",
          "'ftp://example.com' => schemes", "'javascript://example.com/%0aalert(1)' => schemes", "'mailto:a@example.com' => type", "'' => type", "1 => type", "null => type"]),
    ("{'schemes': ['ftp', 'SFTP']}", &["'ftp://example.com'", "'sftp://example.com'"], &["'https://example.com' => schemes"]),
    ("{'require_https': true}", &["'https://example.com'"], &["'http://example.com' => require_https", "'ftp://example.com' => require_https"]),
    ("{'requireHttps': true}", &[], &["'http://example.com' => require_https"]),
    ("{'allowed_domains': ['example.com', 'Bücher.de']}",
        &["'https://example.com'", "'https://www.example.com'", "'https://a.b.EXAMPLE.com./'", "'https://bücher.de'", "'https://xn--bcher-kva.de'"],
        &["'https://evilexample.com' => allowed_domains", "'https://example.com.evil.org' => allowed_domains", "'https://com' => allowed_domains"]),
    ("{'blocked_domains': ['evil.org']}",
        &["'https://example.com'", "'https://notevil.org'"],
        &["'https://evil.org' => blocked_domains", "'https://EVIL.org./x' => blocked_domains", "'https://a.evil.org' => blocked_domains"]),
    ("{'allowedDomains': ['example.com'], 'blockedDomains': ['old.example.com']}",
        &["'https://new.example.com'"],
        &["'https://old.example.com' => blocked_domains", "'https://old.org' => allowed_domains"]),
    ("{'max_length': 20}", &["'https://example.com'"], &["'https://example.com/abc' => max_length"]),
    ("{'require_https': true, 'allowed_domains': ['a.com'], 'max_length': 10}", &[], &["'http://b.com' => max_length, require_https, allowed_domains"]),
];

#[rustfmt::skip]
const EMAIL: &[Group] = &[
    ("{}",
        &["'ann@example.com'", "'a.b+tag@sub.example.co.uk'", "'Ann@EXAMPLE.com'", "'ünï@exämple.de'", "'\\'a b\\'@example.com'"],
        &["'ann' => type", "'ann@' => type", "'@example.com' => type", "'ann@localhost' => type", "'a b@example.com' => type", "'a..b@example.com' => type",
          "'.a@example.com' => type", "'ann@example..com' => type", "'ann@-example.com' => type", "'ann@[127.0.0.1]' => type",
          "'Ann <ann@example.com>' => type", "'ann@example.com ' => type", "'a@b@example.com' => type", "'' => type", "1 => type", "null => type"]),
    ("{'allowed_domains': ['example.com']}", &["'a@example.com'", "'a@mail.EXAMPLE.com'"], &["'a@example.org' => allowed_domains", "'a@badexample.com' => allowed_domains"]),
    ("{'blocked_domains': ['spam.org']}", &["'a@example.com'"], &["'a@spam.org' => blocked_domains", "'a@x.spam.org' => blocked_domains"]),
];

#[rustfmt::skip]
const IP: &[Group] = &[
    ("{}",
        &["'127.0.0.1'", "'255.255.255.255'", "'::'", "'2001:db8::1'", "'::ffff:10.0.0.1'"],
        &["'256.0.0.1' => type", "'1.2.3' => type", "'01.2.3.4' => type", "'1.2.3.4/8' => type", "'0x7f.1' => type", "'::g' => type", "'[::1]' => type",
          "'fe80::1%eth0' => type", "'' => type", "' 1.2.3.4' => type", "2130706433 => type", "null => type"]),
    ("{'version': 4}", &["'1.2.3.4'"], &["'::1' => version", "'::ffff:1.2.3.4' => version"]),
    ("{'version': 6}", &["'::1'"], &["'1.2.3.4' => version"]),
    ("{'require_private': true}",
        &["'10.0.0.1'", "'172.16.0.1'", "'192.168.1.1'", "'127.0.0.1'", "'169.254.0.1'", "'fd00::1'", "'fe80::1'", "'::1'", "'::ffff:10.0.0.1'"],
        &["'8.8.8.8' => require_private", "'172.32.0.1' => require_private", "'2001:4860::1' => require_private"]),
    ("{'requirePrivate': true, 'version': 4}", &["'10.0.0.1'"], &["'2001:4860::1' => version, require_private"]),
    ("{'require_public': true}",
        &["'8.8.8.8'", "'2001:4860::1'", "'100.128.0.1'"],
        &["'10.0.0.1' => require_public", "'127.0.0.1' => require_public", "'0.0.0.0' => require_public", "'100.64.0.1' => require_public",
          "'224.0.0.1' => require_public", "'255.255.255.255' => require_public", "'192.0.2.1' => require_public", "'::1' => require_public",
          "'fd00::1' => require_public", "'ff02::1' => require_public", "'2001:db8::1' => require_public", "'::ffff:127.0.0.1' => require_public"]),
    ("{'allowed_ranges': ['10.0.0.0/8', '2001:db8::/32', '1.1.1.1']}",
        &["'10.255.255.255'", "'2001:db8:1::1'", "'1.1.1.1'", "'::ffff:10.0.0.1'"],
        &["'11.0.0.0' => allowed_ranges", "'2001:db9::' => allowed_ranges", "'1.1.1.2' => allowed_ranges"]),
    ("{'blockedRanges': ['10.1.0.0/16']}", &["'10.2.0.0'"], &["'10.1.2.3' => blocked_ranges", "'::ffff:10.1.2.3' => blocked_ranges"]),
];

#[rustfmt::skip]
const MONEY: &[Group] = &[
    ("{}",
        &["'123.45 USD'", "'0 EUR'", "'-5.5 EUR'", "'1.50 USD'", "{'amount': 123.45, 'currency': 'USD'}", "{'amount': '123.45', 'currency': 'USD'}", "{'currency': 'JPY', 'amount': 1e3}"],
        &["'123.45' => type", "'USD 123.45' => type, type", "'123.45 usd' => type", "'123.45 USDT' => type", "'123,45 USD' => type", "'1.5  USD' => type",
          "' 1 USD' => type, type", "'1.234 USD' => decimal_places", "123.45 => type", "null => type", "[] => type", "'' => type",
          "{} => required .amount, required .currency", "{'amount': 1} => required .currency", "{'currency': 'USD'} => required .amount",
          "{'amount': true, 'currency': 'USD'} => type .amount", "{'amount': 1, 'currency': 840} => type .currency", "{'amount': 'x', 'currency': 'usd'} => type .amount, type .currency",
          "{'amount': 1.005, 'currency': 'USD'} => decimal_places .amount", "{'amount': 1, 'currency': 'USD', 'tax': 1} => unknown_property .tax"]),
    ("{'min_amount': 0.01, 'max_amount': 1000000}",
        &["'0.01 USD'", "'1000000.00 USD'"],
        &["'0 USD' => min_amount", "'-1 USD' => min_amount", "'1000000.01 USD' => max_amount", "{'amount': 0, 'currency': 'USD'} => min_amount .amount"]),
    ("{'minAmount': 1, 'maxAmount': 2}", &["'1 USD'", "'2 USD'"], &["'0.99 USD' => min_amount", "'2.01 USD' => max_amount"]),
    ("{'allowed_currencies': ['EUR', 'USD']}", &["'1 EUR'"], &["'1 GBP' => allowed_currencies", "{'amount': 1, 'currency': 'GBP'} => allowed_currencies .currency"]),
    ("{'allowedCurrencies': ['EUR']}", &[], &["'1 USD' => allowed_currencies"]),
    ("{'decimal_places': 0}", &["'5 JPY'", "'5.00 JPY'"], &["'5.5 JPY' => decimal_places"]),
    ("{'decimalPlaces': 3}", &["'1.234 KWD'"], &["'1.2345 KWD' => decimal_places"]),
];

#[rustfmt::skip]
const COORDINATE: &[Group] = &[
    ("{}",
        &["'52.52,13.40'", "'52.52, 13.40'", "'-90,-180'", "'90,180'", "[52.52, 13.4]", "[0, 0]", "{'latitude': 52.52, 'longitude': 13.4}", "{'lat': 1, 'lon': 2}", "{'lat': 1, 'lng': 2}"],
        &["'52.52' => type", "'52.52;13.40' => type", "'a,b' => type, type", "'1,2,3' => type", "'N52,E13' => type, type", "'' => type", "52.52 => type", "null => type", "true => type",
          "[1] => type", "[1, 2, 3] => type", "['1', 2] => type [0]", "[1, null] => type [1]",
          "'90.0000001,0' => range", "'0,-180.5' => range", "'91,181' => range, range", "[91, 0] => range [0]", "[0, 181] => range [1]", "{'lat': -91, 'lon': 0} => range .lat",
          "{} => required .latitude, required .longitude", "{'lat': 1} => required .longitude", "{'lat': '1', 'lon': 1} => type .lat",
          "{'lat': 1, 'lon': 1, 'alt': 5} => unknown_property .alt", "{'lat': 1, 'latitude': 1, 'lon': 2} => duplicate .latitude"]),
    ("{'bounding_box': [47, 5, 55, 16]}",
        &["'52.52,13.40'", "[47, 5]", "[55, 16]"],
        &["'46.9,10' => bounding_box", "'50,16.1' => bounding_box", "{'lat': 0, 'lon': 0} => bounding_box", "[95, 10] => range [0]"]),
    ("{'boundingBox': {'min_lat': -20, 'min_lon': 170, 'max_lat': -10, 'max_lon': -170}}",
        &["'-15,175'", "'-15,-175'", "'-15,180'"],
        &["'-15,0' => bounding_box", "'-15,169' => bounding_box", "'-21,175' => bounding_box"]),
    ("{'precision': 2}", &["'52.52,13.40'", "[1, 2.250]"], &["'52.525,13' => precision", "[1, 2.255] => precision [1]"]),
];

#[rustfmt::skip]
const ENUM: &[Group] = &[
    ("{'values': ['a', 'b', 1, 2.5, true]}",
        &["'a'", "'b'", "1", "1.0", "2.50", "true"],
        &["'A' => values", "'1' => values", "2 => values", "false => values", "null => type", "[] => values", "{} => values"]),
    ("{'enum': ['x']}", &["'x'"], &["'y' => values"]),
    ("{'allowed_values': ['x']}", &["'x'"], &["'' => values"]),
];

#[rustfmt::skip]
const ARRAY: &[Group] = &[
    ("{}",
        &["[]", "[1, 'a', null, {'b': [true]}]", "[[[[]]]]"],
        &["'a' => type", "{} => type", "1 => type", "null => type", "['a\\u0000'] => characters [0]", "[1e999] => range [0]"]),
    ("{'item_type': 'integer'}", &["[]", "[1, 2]"], &["[1, 'a', 2.5] => type [1], type [2]", "[null] => type [0]"]),
    ("{'itemType': 'string', 'itemConstraints': {'maxLength': 2}}", &["['ab']"], &["['ab', 'abc'] => max_length [1]"]),
    ("{'items': {'type': 'string', 'constraints': {'min_length': 2}}}", &["['ab']"], &["['a', 'b'] => min_length [0], min_length [1]"]),
    ("{'items': {'type': 'array', 'constraints': {'item_type': 'boolean'}}}", &["[[true], []]"], &["[[true], [1, false]] => type [1][0]", "[true] => type [0]"]),
    ("{'min_items': 1, 'max_items': 2}", &["[1]", "[1, 1]"], &["[] => min_items", "[1, 2, 3] => max_items"]),
    ("{'minItems': 1, 'maxItems': 1}", &["[0]"], &["[] => min_items", "[1, 2] => max_items"]),
    ("{'unique': true}",
        &["[1, 2]", "[1, '1', true]", "[{'a': 1, 'b': 2}, {'a': 1}]", "[1, 1.0]"],
        &["[1, 2, 1] => unique [2]", "['a', 'a', 'a'] => unique [1], unique [2]", "[{'a': 1, 'b': 2}, {'b': 2, 'a': 1}] => unique [1]"]),
    ("{'uniqueItems': true}", &[], &["[null, null] => unique [1]"]),
];

#[rustfmt::skip]
const OBJECT: &[Group] = &[
    ("{}",
        &["{}", "{'a': {'b': [1, null]}}", "{'': 1}"],
        &["[] => type", "'a' => type", "null => type", "{'a': 'x\\u0000'} => characters .a", "{'a\\u0000': 1} => characters .a\u{0}", "{'a': {'b': 1e999}} => range .a.b"]),
    ("{'schema': {'zip': {'type': 'string', 'constraints': {'pattern': '^\\\\d{5}$'}}, 'city': {'type': 'string', 'required': true}}}",
        &["{'city': 'Berlin'}", "{'city': 'Berlin', 'zip': '10115'}"],
        &["{} => required .city", "{'city': 'Berlin', 'zip': '1'} => pattern .zip", "{'city': 1, 'zip': 1} => type .city, type .zip", "{'city': 'B', 'street': 'x'} => unknown_property .street", "{'city': null} => type .city"]),
    ("{'properties': {'a': {'type': 'integer'}}, 'required': ['a']}", &["{'a': 1}"], &["{} => required .a"]),
    ("{'schema': {'a': {'type': 'integer'}}, 'additional_properties': true}", &["{'a': 1, 'b': 'x'}"], &["{'a': 'x', 'b': 'x'} => type .a"]),
    ("{'schema': {'a': {'type': 'integer'}}, 'additionalProperties': false}", &["{}"], &["{'b': 1} => unknown_property .b"]),
    ("{'required': ['a', 'b']}", &["{'a': null, 'b': 1, 'c': 2}"], &["{'c': 1} => required .a, required .b"]),
    ("{'schema': {'list': {'type': 'array', 'constraints': {'items': {'type': 'object', 'constraints': {'schema': {'n': {'type': 'integer'}}}}}}}}",
        &["{'list': [{'n': 1}, {}]}"],
        &["{'list': [{'n': 1}, {'n': 'x', 'm': 1}]} => type .list[1].n, unknown_property .list[1].m"]),
    ("{'min_properties': 1, 'max_properties': 2}", &["{'a': 1}", "{'a': 1, 'b': 2}"], &["{} => min_properties", "{'a': 1, 'b': 2, 'c': 3} => max_properties"]),
];

#[rustfmt::skip]
const FILE: &[Group] = &[
    ("{}",
        &["'https://example.com/a.pdf'", "'http://example.com/a'", "'s3://bucket/key.bin'", "'docs/report.pdf'", "'report'", "{'url': 'a.pdf'}",
          "{'url': 'https://example.com/a.pdf', 'name': 'A', 'size': 10, 'mime_type': 'application/pdf', 'checksum': 'sha256:00', 'metadata': {'x': [1]}}"],
        &["'/etc/passwd' => type", "'../secret' => type", "'a/../b' => type", "'a//b' => type", "'a\\\\b' => type", "'C:x' => type", "'' => type", "'a\\u0000' => type", "1 => type", "null => type", "[] => type",
          "'ftp://example.com/a' => schemes", "'file://host/etc/passwd' => schemes", "'https://u:p@example.com/a' => type",
          "{} => required .url", "{'url': 1} => type .url", "{'url': '/abs'} => type .url", "{'url': 'a', 'size': -1} => type .size", "{'url': 'a', 'size': 1.5} => type .size",
          "{'url': 'a', 'mime_type': 'pdf'} => type .mime_type", "{'url': 'a', 'name': 1} => type .name", "{'url': 'a', 'path': 'b'} => unknown_property .path"]),
    ("{'require_https': true}", &["'https://example.com/a'"], &["'http://example.com/a' => require_https", "'a.pdf' => type", "'s3://b/k' => require_https"]),
    ("{'allowed_domains': ['example.com']}", &["'https://cdn.example.com/a'"], &["'https://evil.org/a' => allowed_domains", "'a.pdf' => type"]),
    ("{'blockedDomains': ['evil.org']}", &["'https://example.com/a'"], &["'https://evil.org/a' => blocked_domains"]),
    ("{'allowed_extensions': ['pdf', '.TXT']}",
        &["'a.pdf'", "'a.PDF'", "'b/c.txt'", "'https://example.com/x.pdf?y=z.exe#q'"],
        &["'a.exe' => allowed_extensions", "'a' => allowed_extensions", "'a.pdf.exe' => allowed_extensions", "'.pdf' => allowed_extensions", "'https://example.com/x?y=.pdf' => allowed_extensions", "{'url': 'a.exe'} => allowed_extensions .url"]),
    ("{'allowedExtensions': ['pdf']}", &[], &["'a.txt' => allowed_extensions"]),
    ("{'max_size': 100, 'min_size': 1}",
        &["{'url': 'a', 'size': 1}", "{'url': 'a', 'size': 100}"],
        &["{'url': 'a', 'size': 101} => max_size .size", "{'url': 'a', 'size': 0} => min_size .size"]),
    ("{'maxSize': 100}", &["{'url': 'a', 'size': 0}"], &["{'url': 'a'} => required .size", "'a' => required .size", "{'url': 'a', 'size': 'big'} => type .size"]),
    ("{'allowed_types': ['application/pdf', 'text/*']}",
        &["{'url': 'a', 'mime_type': 'application/pdf'}", "{'url': 'a', 'mime_type': 'Text/Plain'}"],
        &["{'url': 'a', 'mime_type': 'image/png'} => allowed_types .mime_type", "{'url': 'a'} => required .mime_type", "'a' => required .mime_type"]),
];

#[rustfmt::skip]
const IMAGE: &[Group] = &[
    ("{}",
        &["'https://example.com/a.png'", "'https://example.com/image?id=7'", "'a.JPEG'", "{'url': 'a.webp', 'width': 10, 'height': 20, 'alt': 'A', 'mime_type': 'image/webp'}"],
        &["'a.pdf' => allowed_extensions", "'https://example.com/a.exe' => allowed_extensions", "{'url': 'a.png', 'mime_type': 'text/html'} => allowed_types .mime_type",
          "{'url': 'a.png', 'width': '10'} => type .width", "1 => type", "null => type"]),
    ("{'requireHttps': true}", &["'https://example.com/a.png'"], &["'http://example.com/a.png' => require_https"]),
    ("{'allowedDomains': ['example.com']}", &["'https://example.com/a.png'"], &["'https://evil.org/a.png' => allowed_domains"]),
    ("{'allowed_extensions': ['png']}", &["'a.png'"], &["'a.jpg' => allowed_extensions"]),
    ("{'max_width': 100, 'max_height': 50}",
        &["{'url': 'a.png', 'width': 100, 'height': 50}"],
        &["{'url': 'a.png', 'width': 101, 'height': 51} => max_width .width, max_height .height", "{'url': 'a.png', 'width': 1} => required .height", "'a.png' => required .width, required .height"]),
    ("{'minWidth': 10, 'minHeight': 10, 'maxSize': 5}",
        &["{'url': 'a.png', 'width': 10, 'height': 10, 'size': 5}"],
        &["{'url': 'a.png', 'width': 9, 'height': 9, 'size': 6} => max_size .size, min_width .width, min_height .height"]),
    ("{'allowedTypes': ['image/png']}", &["{'url': 'a.png', 'mime_type': 'image/png'}"], &["{'url': 'a.png', 'mime_type': 'image/gif'} => allowed_types .mime_type"]),
];

#[rustfmt::skip]
const LINK: &[Group] = &[
    ("{}",
        &["'ann'", "'Amélie (2001)'", "'018f4b1c-0000-7000-8000-000000000000'"],
        &["'' => type", "'a/b' => type", "'.' => type", "'..' => type", "'a\\nb' => type", "1 => type", "null => type", "['ann'] => type"]),
    ("{'target': 'Person'}", &["'ann'"], &["'a/b' => type"]),
    ("{'target_class': 'Person'}", &["'ann'"], &["{'id': 'ann'} => type"]),
];

#[rustfmt::skip]
const TABLES: [(&str, &[Group]); 18] = [
    ("string", STRING), ("integer", INTEGER), ("number", NUMBER), ("boolean", BOOLEAN), ("date", DATE), ("datetime", DATETIME),
    ("uuid", UUID), ("url", URL), ("email", EMAIL), ("ip", IP), ("money", MONEY), ("coordinate", COORDINATE),
    ("enum", ENUM), ("array", ARRAY), ("object", OBJECT), ("file", FILE), ("image", IMAGE), ("link", LINK),
];

/// Type, constraints, violations of the definition.
#[rustfmt::skip]
const BAD_CONSTRAINTS: &[(&str, &str, &str)] = &[
    ("text", "{}", "type .type"),
    ("String", "{}", "type .type"),
    ("string", "{'min': 1}", "unknown_constraint .constraints.min"),
    ("boolean", "{'values': [true]}", "unknown_constraint .constraints.values"),
    ("string", "{'min_length': -1}", "type .constraints.min_length"),
    ("string", "{'min_length': '3'}", "type .constraints.min_length"),
    ("string", "{'maxLength': 1.5}", "type .constraints.maxLength"),
    ("string", "{'min_length': 3, 'max_length': 2}", "range .constraints.max_length"),
    ("string", "{'min_length': 3, 'minLength': 3}", "duplicate .constraints.minLength"),
    ("string", "{'pattern': '('}", "pattern .constraints.pattern"),
    ("string", "{'pattern': '(?=a)'}", "pattern .constraints.pattern"),
    ("string", "{'pattern': '(\\\\w{100}){100}'}", "pattern .constraints.pattern"),
    ("string", "{'pattern': 1}", "type .constraints.pattern"),
    ("string", "{'format': 'phone'}", "type .constraints.format"),
    ("string", "{'case': 'title'}", "type .constraints.case"),
    ("string", "{'trim': 'yes'}", "type .constraints.trim"),
    ("string", "{'whitelist': []}", "type .constraints.whitelist"),
    ("string", "{'blacklist': [1]}", "type .constraints.blacklist"),
    ("integer", "{'min': 'a'}", "type .constraints.min"),
    ("integer", "{'minimum': 2, 'maximum': 1}", "range .constraints.maximum"),
    ("integer", "{'min': 2, 'exclusive_max': 1}", "range .constraints.exclusive_max"),
    ("integer", "{'precision': 2}", "unknown_constraint .constraints.precision"),
    ("number", "{'multiple_of': 0}", "type .constraints.multiple_of"),
    ("number", "{'multiple_of': -1}", "type .constraints.multiple_of"),
    ("number", "{'min': 1e999}", "range .constraints.min, type .constraints.min"),
    ("date", "{'min': '2024-02-30'}", "type .constraints.min"),
    ("date", "{'min': '2024-02-02', 'max': '2024-02-01'}", "range .constraints.max"),
    ("datetime", "{'max': '2024-02-01'}", "type .constraints.max"),
    ("uuid", "{'version': 9}", "type .constraints.version"),
    ("uuid", "{'version': []}", "type .constraints.version"),
    ("uuid", "{'variant': 'x'}", "type .constraints.variant"),
    ("url", "{'allowed_domains': ['exa mple.com']}", "type .constraints.allowed_domains"),
    ("url", "{'schemes': 'https'}", "type .constraints.schemes"),
    ("ip", "{'version': 5}", "type .constraints.version"),
    ("ip", "{'allowed_ranges': ['10.0.0.0/33']}", "type .constraints.allowed_ranges"),
    ("ip", "{'require_private': true, 'require_public': true}", "range .constraints.require_public"),
    ("money", "{'allowed_currencies': ['usd']}", "type .constraints.allowed_currencies"),
    ("money", "{'min_amount': 2, 'max_amount': 1}", "range .constraints.max_amount"),
    ("coordinate", "{'bounding_box': [1, 2, 3]}", "type .constraints.bounding_box"),
    ("coordinate", "{'bounding_box': [91, 0, 92, 0]}", "type .constraints.bounding_box"),
    ("coordinate", "{'bounding_box': [2, 0, 1, 0]}", "range .constraints.bounding_box"),
    ("enum", "{}", "required .constraints.values"),
    ("enum", "{'values': []}", "type .constraints.values"),
    ("enum", "{'values': ['a', 'a']}", "duplicate .constraints.values"),
    ("enum", "{'values': [1, 1.0]}", "duplicate .constraints.values"),
    ("enum", "{'values': [null]}", "type .constraints.values"),
    ("array", "{'item_type': 'text'}", "type .constraints.item_type"),
    ("array", "{'item_constraints': {}}", "required .constraints.item_constraints"),
    ("array", "{'items': {'type': 'string'}, 'item_type': 'string'}", "duplicate .constraints.item_type"),
    ("array", "{'items': 'string'}", "type .constraints.items"),
    ("array", "{'items': {'type': 'string', 'constraints': {'pattern': '['}}}", "pattern .constraints.items.constraints.pattern"),
    ("array", "{'items': {'kind': 'string'}}", "unknown_property .constraints.items.kind, required .constraints.items.type"),
    ("array", "{'min_items': 2, 'max_items': 1}", "range .constraints.max_items"),
    ("object", "{'schema': {'a': {'type': 'x'}}}", "type .constraints.schema.a.type"),
    ("object", "{'schema': {'a': {'type': 'string', 'required': 1}}}", "type .constraints.schema.a.required"),
    ("object", "{'schema': {'a': {'type': 'string', 'constraints': []}}}", "type .constraints.schema.a.constraints"),
    ("object", "{'schema': {'a': {'type': 'string'}}, 'required': ['b']}", "unknown_property .constraints.required"),
    ("object", "{'additional_properties': 'no'}", "type .constraints.additional_properties"),
    ("file", "{'max_width': 1}", "unknown_constraint .constraints.max_width"),
    ("file", "{'allowed_extensions': ['.']}", "type .constraints.allowed_extensions"),
    ("image", "{'min_width': 2, 'max_width': 1}", "range .constraints.max_width"),
    ("link", "{'target': 'a b'}", "type .constraints.target"),
];

fn parse(text: &str) -> Value {
    // `\'` stands for a quote inside a string.
    let json = text.replace("\\'", "\u{1}").replace('\'', "\"");
    serde_json::from_str(&json.replace('\u{1}', "\\\"")).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn class_of(kind: &str, constraints: &str) -> ClassDefinition {
    let property = json!({"name": "p", "type": kind, "constraints": parse(constraints)});
    let class = json!({"id": "C", "label": "C", "properties": [property]});
    serde_json::from_value(class).unwrap()
}

/// Violations as the tables write them.
fn told(result: Result<(), Refusal>, root: &str) -> String {
    let violations = result.err().map(|r| r.violations).unwrap_or_default();
    let one = |v: &Violation| match v.field.strip_prefix(root) {
        Some("") => v.code.to_owned(),
        place => format!("{} {}", v.code, place.unwrap_or(&v.field)),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Values with the violations expected of them.
fn rows(
    accepted: &'static [&str],
    refused: &'static [&str],
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let accepted = accepted.iter().map(|value| (*value, ""));
    accepted.chain(refused.iter().map(|row| row.rsplit_once(" => ").unwrap()))
}

#[test]
fn every_value_is_accepted_or_refused_as_the_tables_say() {
    let mut wrong = Vec::new();
    for (kind, groups) in TABLES {
        for (constraints, accepted, refused) in groups {
            let definition = class_of(kind, constraints);
            assert_eq!(definition.validate(), Ok(()), "{kind} {constraints}");
            let class = EffectiveClass::resolve(&[&definition]).unwrap();
            for (value, expected) in rows(accepted, refused) {
                let data = Map::from_iter([("p".to_owned(), parse(value))]);
                let found = told(class.validate(&data), "data.p");
                if found != expected {
                    let row = format!("{kind} {constraints} {value}");
                    wrong.push(format!("{row}: `{found}`, not `{expected}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn senseless_constraints_are_refused_as_the_table_says() {
    let mut wrong = Vec::new();
    for (kind, constraints, expected) in BAD_CONSTRAINTS {
        let definition = class_of(kind, constraints);
        let found = told(definition.validate(), "properties[0]");
        if found != *expected || EffectiveClass::resolve(&[&definition]).is_ok() {
            let row = format!("{kind} {constraints}");
            wrong.push(format!("{row}: `{found}`, not `{expected}`"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_type_has_a_table_and_every_table_a_type() {
    assert_eq!(TABLES.map(|(kind, _)| kind), KINDS);
}

#[test]
fn a_default_must_satisfy_its_own_property_as_any_value_must() {
    for (kind, groups) in TABLES {
        for (constraints, accepted, refused) in groups {
            for (value, expected) in rows(accepted, refused).filter(|(value, _)| *value != "null") {
                let mut definition = class_of(kind, constraints);
                definition.properties[0].default = Some(parse(value));
                // No default could promise that an instance of a certain class is there.
                let sound = expected.is_empty() && !constraints.contains("target");
                let row = format!("{kind} {constraints} {value}");
                assert_eq!(definition.validate().is_ok(), sound, "{row}");
            }
        }
    }
}
