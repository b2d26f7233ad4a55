//! However many rows there are, none is looked at that isn't wanted: what both engines plan with 100,000 of them.

use super::*;
use crate::queue::filter::selected;
use crate::selection::Of;

/// Entries for 20,000 domains, each with a message of its own, and as many that are retired.
const FILL: [&str; 5] = [
    "INSERT INTO queue_message (id, account, queued, size, prefix, body, has_8bit, smtputf8, message_id, subject, report, future_release, \
     extra, envelope_id, return_full) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
     SELECT i, 'ann', i, 1, @blob, @blob, 0, 0, '<' || i || '@a.example>', '', 0, '', '{}', 'e' || i, 0 FROM n",
    "INSERT INTO queue_entry (id, base_id, message, account, queued, hold, sender, from_id, recipient, domain, attempts, max_attempts, dialed, \
     next_attempt, transport, notify, from_id_key, bulk) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
     SELECT i, i % 1000, i, 'ann', i, 0, 'ann+' || i || '@a.example', 'F' || i, 'x' || i || '@d' || (i % 20000), 'd' || (i % 20000), 0, 0, '', i, \
     '', 0, 'f' || i, i % 2 FROM n",
    "INSERT INTO queue_domain (domain, next_due, next_urgent, leased_until, owner) \
     SELECT domain, MIN(next_attempt), MIN(CASE WHEN bulk = 0 THEN next_attempt END), 0, 0 FROM queue_entry GROUP BY domain",
    "INSERT INTO queue_retired (id, base_id, account, queued, sender, from_id, recipient, domain, attempts, max_attempts, dialed, transport, \
     has_8bit, smtputf8, report, size, message_id, subject, future_release, extra, last_activity, success, keep_until, from_id_key) \
     SELECT id + 100000, 0, account, queued, sender, from_id, recipient, domain, 1, 0, '', '', 0, 0, 0, 1, '<r' || id || '@a.example>', '', '', \
     '{}', id, 0, id, 'r' || id FROM queue_entry",
    "ANALYZE",
];

/// What is asked all the time, with values in place of its parameters.
fn statements(postgres: bool) -> Vec<String> {
    let entry = |rest: &str, values: &[&str]| with(&format!("SELECT e.id {rest}"), values);
    let group = if postgres { claim::GROUP.postgres } else { claim::GROUP.sqlite };
    let list = |sort: Sort, filter: Filter, of: Of| {
        let selection = selected(&filter, &sort, Some(100), of);
        let (table, rest) = (
            if of == Of::Waiting { "queue_entry" } else { "queue_retired" },
            if postgres { selection.postgres().to_owned() } else { selection.sqlite().to_owned() },
        );
        let first = if filter.account.is_some() { "'bob'" } else { "50000" };
        with(&format!("SELECT e.id FROM {table} e {rest}"), &[first, "50000", "50000"])
    };
    let queued = Sort { field: SortField::Added, ..Sort::default() };
    let page = Sort { after: Some((Timestamp::from_micros(50_000), QueueId(50_000))), ..Sort::default() };
    let by_message = |column: &str, value: &str| {
        format!("SELECT e.id FROM queue_message m JOIN queue_entry e ON e.message = m.id WHERE m.{column} = {value} AND e.account = 'ann'")
    };
    vec![
        with(NEXT_DUE, &["5"]),
        with(EARLIEST, &["'d7'", "0"]),
        with(&format!("{} LIMIT 10", claim::DUE), &["5"]),
        with(&format!("{} LIMIT 10", claim::DUE_URGENT), &["5"]),
        "SELECT 1 FROM queue_domain WHERE next_urgent <= 5 AND leased_until <= 5 AND domain <> 'd7' LIMIT 1".to_owned(),
        entry(claim::FIRST, &["'d7'", "0", "5"]),
        entry(&format!("{group} {} 999", claim::GROUP_WHERE), &["7", "'d7'", "7", "0", "5", "-1", "''"]),
        "SELECT 1 FROM queue_entry WHERE domain = 'd7' LIMIT 1".to_owned(),
        "SELECT 1 FROM queue_entry WHERE message = 7 UNION ALL SELECT 1 FROM queue_copy WHERE message = 7 LIMIT 1".to_owned(),
        "SELECT max(number) FROM queue_result WHERE entry = 7".to_owned(),
        "SELECT count(*) FROM queue_entry WHERE hold = 1".to_owned(),
        "SELECT id FROM queue_entry WHERE hold = 1 AND hold_reason <> '' AND id > 7 ORDER BY id LIMIT 100".to_owned(),
        // Earlier messages, by what comes back.
        "SELECT 1 FROM queue_entry WHERE from_id = 'F7' UNION ALL SELECT 1 FROM queue_retired WHERE from_id = 'F7' LIMIT 1".to_owned(),
        "SELECT e.id FROM queue_entry e JOIN queue_message m ON m.id = e.message WHERE e.from_id_key = 'f7' ORDER BY e.id DESC LIMIT 10"
            .to_owned(),
        "SELECT e.id FROM queue_retired e WHERE e.from_id_key = 'r7' ORDER BY e.id DESC LIMIT 10".to_owned(),
        by_message("message_id", "'<7@a.example>'"),
        by_message("envelope_id", "'e7'"),
        "SELECT e.id FROM queue_retired e WHERE e.message_id = '<r7@a.example>' AND e.account = 'ann' ORDER BY e.id DESC LIMIT 1".to_owned(),
        "SELECT id FROM queue_retired WHERE account = 'ann' AND recipient = 'x7@d7' AND id <> 7 ORDER BY last_activity DESC, id DESC LIMIT 10"
            .to_owned(),
        "SELECT id FROM queue_retired WHERE keep_until < 5 ORDER BY keep_until, id LIMIT 500".to_owned(),
        // Lists: page by page, also with filters.
        list(Sort::default(), Filter::default(), Of::Waiting),
        list(page, Filter::default(), Of::Waiting),
        list(queued, Filter::default(), Of::Waiting),
        list(queued, Filter { account: Some("bob".to_owned()), ..Filter::default() }, Of::Waiting),
        list(queued, Filter { account: Some("bob".to_owned()), ..Filter::default() }, Of::Retired),
        list(Sort::default(), Filter::default(), Of::Retired),
        list(page, Filter::default(), Of::Retired),
    ]
}

/// The statement with its parameters replaced.
fn with(sql: &str, values: &[&str]) -> String {
    values.iter().enumerate().rev().fold(sql.to_owned(), |sql, (i, value)| sql.replace(&format!("${}", i + 1), value))
}

pub(super) async fn rows_are_found_by_indexes(f: Fixture) {
    let postgres = matches!(f.location, Location::Postgres(_));
    let empty = if postgres { "''::bytea" } else { "x''" };
    let fill = move |tx: &Tx<'_>| FILL.iter().try_for_each(|sql| tx.exec(&sql.replace("@blob", empty), &[]).map(|_| ()));
    f.queue.db.write(fill).await.unwrap_or_else(|e: Error| panic!("{e}"));
    for sql in statements(postgres) {
        let (explain, column) = if postgres { ("EXPLAIN", 0) } else { ("EXPLAIN QUERY PLAN", 3) };
        let text = format!("{explain} {sql}");
        let plan = f.queue.db.read(move |tx| {
            let plan = tx.query_all(&text, &[], |row| Ok::<_, Error>(row.text(column)?.to_owned()))?;
            Ok::<_, Error>(plan)
        });
        let plan = plan.await.unwrap();
        let fine = |step: &String| {
            if postgres {
                // Empty tables are scanned, and rightly.
                !step.contains("Seq Scan") || step.contains("queue_copy") || step.contains("queue_result")
            } else {
                // Sorting what an index found in half an order is sorting equals.
                step.contains(" USING ") || !(step.starts_with("SCAN") || step.ends_with("B-TREE FOR ORDER BY"))
            }
        };
        assert!(plan.iter().all(fine), "{sql}: {plan:#?}");
    }
}
