//! The SQL layer by itself.

use crate::fixture::{Fixture, for_each_engine};
use mox_store::db::schema::{Change, Column, Index, Key, Schema, Table};
use mox_store::db::{Database, Error, Sql};
use mox_store::params;

const THING: Table = Table {
    name: "thing",
    account: false,
    columns: &[Column::text("name"), Column::blob("data").null(), Column::int("n").default("7")],
    key: Key::Auto("id"),
    indexes: &[Index { name: "thing_by_name", columns: &["name"], unique: true }],
};
const FIRST: Schema = Schema { name: "things", migrations: &[&[Change::Create(&THING)]] };
const SECOND: Schema =
    Schema { name: "things", migrations: &[&[Change::Create(&THING)], &[Change::AddColumn("thing", Column::text("more").default("'m'"))]] };

async fn names(db: &Database) -> Vec<String> {
    db.read(|tx| {
        let mut names = Vec::new();
        tx.query("SELECT name FROM thing ORDER BY id", &[], |r| {
            names.push(r.text(0)?.to_owned());
            Ok::<_, Error>(())
        })?;
        Ok::<_, Error>(names)
    })
    .await
    .unwrap()
}

async fn insert(db: &Database, name: &'static str) -> Result<i64, Error> {
    db.write(move |tx| tx.query_row("INSERT INTO thing (name) VALUES ($1) RETURNING id", params![name], |r| r.int(0))).await
}

for_each_engine! {
    async fn values_come_back(f: Fixture) {
        let db = f.store.database("things", &FIRST).await.unwrap();
        // Parameters by number, not by place.
        db.write(|tx| tx.exec("INSERT INTO thing (data, name) VALUES ($2, $1)", params!["ä", b"\0\xff"])).await.unwrap();
        let row = db
            .read(|tx| {
                tx.query_row("SELECT id, name, data, n, COUNT(*) OVER (), n = 7 FROM thing WHERE name = $1", params!["ä"], |r| {
                    assert!(r.text(2).is_err() && r.int(1).is_err() && r.opt_int(9).is_err());
                    Ok::<_, Error>((r.int(0)?, r.text(1)?.to_owned(), r.blob(2)?.to_vec(), r.int(3)?, r.int(4)?, r.bool(5)?))
                })
            })
            .await
            .unwrap();
        assert_eq!(row, (1, "ä".to_owned(), vec![0, 0xff], 7, 1, true));
        let none = db.read(|tx| tx.query_row("SELECT 1 FROM thing WHERE id = $1", params![99], |r| r.int(0))).await;
        assert!(matches!(none, Err(Error::NoRow(_))));
        db.close().await;
        assert!(matches!(insert(&db, "late").await, Err(Error::Closed)));
        f.finish().await;
    }

    async fn a_failure_that_is_ignored_is_a_failure(f: Fixture) {
        let db = f.store.database("things", &FIRST).await.unwrap();
        insert(&db, "a").await.unwrap();
        let ignored = db
            .write(|tx| {
                tx.exec("INSERT INTO thing (name) VALUES ($1)", params!["b"])?;
                _ = tx.exec("INSERT INTO thing (name) VALUES ($1)", params!["a"]);
                Ok::<_, Error>(())
            })
            .await;
        assert!(matches!(ignored, Err(Error::Ignored)));
        assert_eq!(names(&db).await, ["a"]);
        f.finish().await;
    }

    async fn closures_that_share_a_commit_fail_alone(f: Fixture) {
        let db = f.store.database("things", &FIRST).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..100 {
            let db = db.clone();
            tasks.spawn(async move {
                db.write(move |tx| {
                    tx.exec("INSERT INTO thing (name) VALUES ($1)", params![&format!("n{n}")])?;
                    if n % 4 == 0 { Err(Error::Closed) } else { Ok(()) }
                })
                .await
                .is_ok()
            });
        }
        let mut ok = 0;
        while let Some(done) = tasks.join_next().await {
            ok += usize::from(done.unwrap());
        }
        assert_eq!((ok, names(&db).await.len()), (75, 75));
        f.finish().await;
    }

    async fn migrations_go_forward_only(f: Fixture) {
        let db = f.store.database("things", &FIRST).await.unwrap();
        insert(&db, "old").await.unwrap();
        db.close().await;
        let mut f = f;
        // A new process: what was seen of schemas is forgotten.
        f.reopen(std::sync::Arc::new(mox_store::db::NoFaults)).await.unwrap();
        let db = f.store.database("things", &SECOND).await.unwrap();
        let more = db.read(|tx| tx.query_row("SELECT more FROM thing", &[], |r| r.text(0).map(str::to_owned))).await.unwrap();
        assert_eq!(more, "m");
        db.close().await;
        f.reopen(std::sync::Arc::new(mox_store::db::NoFaults)).await.unwrap();
        assert!(matches!(f.store.database("things", &FIRST).await, Err(mox_store::Error::Db(Error::Newer { found: 2, known: 1, .. }))));
        f.finish().await;
    }

    async fn a_reader_has_one_snapshot(f: Fixture) {
        let db = f.store.database("things", &FIRST).await.unwrap();
        insert(&db, "a").await.unwrap();
        let (other, handle) = (db.clone(), tokio::runtime::Handle::current());
        let counts = db
            .read(move |tx| {
                let count = || tx.query_row("SELECT CAST(COUNT(*) AS BIGINT) FROM thing", &[], |r| r.int(0));
                let before = count()?;
                handle.block_on(insert(&other, "b"))?;
                Ok::<_, Error>((before, count()?))
            })
            .await
            .unwrap();
        assert_eq!((counts, names(&db).await.len()), ((1, 1), 2));
        f.finish().await;
    }

    async fn one_text_for_each_engine(f: Fixture) {
        let db = f.store.database("things", &FIRST).await.unwrap();
        let sum = db
            .read(|tx| {
                let ids: &[i64] = &[1, 2, 3];
                let sql = Sql {
                    sqlite: "SELECT SUM(value) FROM json_each($1)",
                    postgres: "SELECT CAST(SUM(v) AS BIGINT) FROM unnest($2::bigint[]) AS v WHERE $1::text IS NOT NULL",
                };
                if tx.is_postgres() { tx.query_row(sql, params!["", ids], |r| r.int(0)) } else { tx.query_row(sql, params!["[1,2,3]"], |r| r.int(0)) }
            })
            .await
            .unwrap();
        assert_eq!(sum, 6);
        f.finish().await;
    }
}
