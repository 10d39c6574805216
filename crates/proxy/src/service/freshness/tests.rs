//! How long a response is fresh, and how long it may be stale, as RFC 9111 has it.

use super::*;

fn response(fields: &[(&'static str, &str)]) -> ResponseHeader {
    let mut response = ResponseHeader::build(200, None).unwrap();
    for (name, value) in fields {
        response.append_header(*name, *value).unwrap();
    }
    response
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

fn at(seconds: i64) -> String {
    let moment = if seconds < 0 {
        now() - Duration::from_secs(seconds.unsigned_abs())
    } else {
        now() + Duration::from_secs(seconds.unsigned_abs())
    };
    httpdate::fmt_http_date(moment)
}

fn lifetime(fields: &[(&'static str, &str)]) -> Option<u64> {
    let response = response(fields);
    Policy::of(&response).lifetime(&response, now()).map(|lifetime| lifetime.as_secs())
}

#[test]
fn expires_counts_from_the_origins_own_clock() {
    for (date, expires, seconds) in [(0, 300, 300), (-500, -200, 300), (500, 800, 300), (400, 300, 0)] {
        assert_eq!(lifetime(&[("date", &at(date)), ("expires", &at(expires))]), Some(seconds), "{date}");
    }
    assert_eq!(lifetime(&[("expires", &at(300))]), Some(300), "without a Date, since it came");
    assert_eq!(lifetime(&[("date", "yesterday"), ("expires", &at(300))]), Some(300));
    assert_eq!(lifetime(&[("expires", "0")]), Some(0));
    assert_eq!(lifetime(&[("cache-control", "max-age=7"), ("expires", &at(300))]), Some(7));
    assert_eq!(lifetime(&[]), None);
}

#[test]
fn an_age_is_one_number_and_what_is_none_is_old() {
    for (value, seconds) in [
        ("0", 0),
        ("7200", 7200),
        (" 7200, 0", FOR_EVER),
        ("0, 7200", FOR_EVER),
        ("7200;foo=bar", 7200),
        ("7200.5", 7200),
        ("-7200", FOR_EVER),
        ("abc", FOR_EVER),
        ("", FOR_EVER),
        ("99999999999999999999999", FOR_EVER),
    ] {
        assert_eq!(age(&response(&[("age", value)])), seconds, "{value:?}");
    }
    assert_eq!(age(&response(&[])), 0);
    assert_eq!(age(&response(&[("age", "0"), ("age", "0")])), FOR_EVER);
    let hour = Duration::from_secs(3_600);
    assert_eq!(fresh_until(now(), hour, 600), now() + Duration::from_secs(3_000));
    for old in [3_600, 7_200, FOR_EVER] {
        assert!(fresh_until(now(), hour, old) < now());
    }
}

#[test]
fn what_is_said_to_cdns_stands_alone() {
    for (cdn, seconds) in [
        ("max-age=7", Some(7)),
        ("max-age=7;ext=1, foo=(a b)", Some(7)),
        ("no-cache, max-age=7", Some(0)),
        // Nothing about a time, and what everybody is told does not count.
        ("public", None),
        ("max-age=\"7\"", Some(7)),
        // No Dictionary, so as if it were not there.
        ("", Some(3_600)),
        ("max-age=7,", Some(3_600)),
        ("Max-Age=7", Some(3_600)),
        ("max-age=7 no-store", Some(3_600)),
    ] {
        let fields = [("cache-control", "max-age=3600"), ("cdn-cache-control", cdn), ("expires", &at(9))];
        assert_eq!(lifetime(&fields), seconds, "{cdn:?}");
    }
    let allows =
        |fields: &[(&'static str, &str)]| Policy::of(&response(fields)).allows_keeping(StatusCode::OK, false);
    assert!(!allows(&[("cache-control", "max-age=3600"), ("cdn-cache-control", "no-store")]));
    assert!(!allows(&[("cache-control", "max-age=3600"), ("cdn-cache-control", "private, max-age=60")]));
    assert!(allows(&[("cache-control", "no-store"), ("cdn-cache-control", "max-age=60")]));
}

#[test]
fn a_soft_purge_leaves_a_stale_window_unless_the_origin_forbids_stale_answers() {
    for (control, seconds, after_soft_purge_only) in [
        ("max-age=60", SOFT_STALE_SECONDS, true),
        ("max-age=60, stale-while-revalidate=5", 5, false),
        ("s-maxage=60", SOFT_STALE_SECONDS, true),
        ("s-maxage=60, stale-while-revalidate=5", 5, true),
        ("max-age=60, must-revalidate", 0, false),
        ("max-age=60, proxy-revalidate, stale-while-revalidate=5", 0, false),
        ("no-cache, stale-while-revalidate=5", 0, false),
    ] {
        let window = Policy::of(&response(&[("cache-control", control)])).stale_window();
        assert_eq!(window, StaleWindow { seconds, after_soft_purge_only }, "{control}");
    }
}

#[test]
fn an_answer_to_somebody_known_is_kept_only_by_the_origins_leave() {
    for (control, allowed) in [
        ("max-age=60", false),
        ("public, max-age=60", true),
        ("s-maxage=60", true),
        ("private, public", false),
    ] {
        assert_eq!(
            Policy::of(&response(&[("cache-control", control)])).allows_keeping(StatusCode::OK, true),
            allowed,
            "{control}"
        );
    }
    assert!(!Policy::of(&response(&[("expires", &at(60))])).allows_keeping(StatusCode::OK, true));
}

#[test]
fn a_status_that_is_not_understood_is_not_kept_where_it_must_be() {
    let policy = Policy::of(&response(&[("cache-control", "max-age=60, must-understand")]));
    for (status, allowed) in [(200, true), (404, true), (599, false), (299, false)] {
        assert_eq!(policy.allows_keeping(StatusCode::from_u16(status).unwrap(), false), allowed, "{status}");
    }
}
