//! PostgreSQL: pooled connections, driven from blocking threads.

use super::faults::{Faults, Step, check};
use super::tls::{Encrypted, Tls};
use super::{Error, Param, PgAddress, PgTlsMode, Row};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Connection, SimpleQueryMessage, Socket, Statement};
use tokio_rustls::rustls::ClientConfig;

/// Connections of one process, of all accounts together.
const CONNECTIONS: usize = 24;

/// How often, and how long apart, a server that doesn't answer or hasn't decided is asked for a commit's outcome: a restart takes seconds.
const OUTCOME_ATTEMPTS: usize = 100;
const OUTCOME_PAUSE: Duration = Duration::from_millis(100);

/// Connections to one PostgreSQL, shared by all databases of a store.
#[derive(Debug)]
pub struct PgPool {
    config: tokio_postgres::Config,
    tls: Tls,
    runtime: Handle,
    idle: Mutex<Vec<PgConn>>,
    permits: Arc<Semaphore>,
    /// Schemas known to be at their newest version, so that not each account asks.
    schemas: Mutex<BTreeSet<&'static str>>,
}

impl PgPool {
    /// A pool for a URL within this machine; connects when first needed.
    ///
    /// # Errors
    /// The URL is malformed.
    pub fn new(url: &str, runtime: Handle) -> Result<Arc<Self>, Error> {
        Self::at(PgAddress::parse(url)?, None, runtime)
    }

    /// A pool for an address, with the TLS that it wants; connects when first needed.
    ///
    /// # Errors
    /// The address wants TLS, and there is none.
    pub fn at(address: PgAddress, tls: Option<Arc<ClientConfig>>, runtime: Handle) -> Result<Arc<Self>, Error> {
        if tls.is_none() && address.tls_mode() != PgTlsMode::Disable {
            return Err(Error::Address("TLS is wanted, but isn't set up".to_owned()));
        }
        Ok(Arc::new(Self {
            config: address.config,
            tls: Tls(tls),
            runtime,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            schemas: Mutex::default(),
        }))
    }

    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Takes a connection, waiting for one if all are in use. On a blocking thread only.
    pub(super) fn take(&self, faults: &dyn Faults) -> Result<PgConn, Error> {
        check(faults, Step::Connect)?;
        let permit = self.runtime.block_on(Arc::clone(&self.permits).acquire_owned()).map_err(|_| Error::Closed)?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(mut conn) = idle
            && !conn.client.is_closed()
        {
            conn.permit = Some(permit);
            return Ok(conn);
        }
        let client = self.runtime.block_on(self.connect())?;
        Ok(PgConn {
            client,
            runtime: self.runtime.clone(),
            statements: RefCell::default(),
            transaction: Cell::default(),
            permit: Some(permit),
        })
    }

    /// A connection beside the pool's, for whoever drives it.
    pub(super) async fn open(&self) -> Result<(Client, Connection<Socket, Encrypted<Socket>>), Error> {
        Ok(self.config.connect(self.tls.clone()).await?)
    }

    /// A connection beside the pool's.
    pub(super) async fn connect(&self) -> Result<Client, Error> {
        let (client, connection) = self.open().await?;
        // The connection's task ends by itself when the client is dropped.
        self.runtime.spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!(error = %e, "connection to postgresql ended");
            }
        });
        Ok(client)
    }

    /// Whether the transaction of a connection that was lost while committing is committed; none if that can't be told.
    ///
    /// Asks over a connection beside the pool's: those that were lost still have their places there.
    pub(super) fn outcome(&self, lost: &PgConn) -> Result<Option<bool>, Error> {
        let Some(id) = lost.transaction.take() else { return Ok(None) };
        self.runtime.block_on(async {
            let mut last = None;
            for _ in 0..OUTCOME_ATTEMPTS {
                match self.status(&id).await {
                    // The server hasn't noticed yet that we are gone.
                    Ok(Some(status)) if status == "in progress" => last = None,
                    Ok(status) => return Ok(status.map(|status| status == "committed")),
                    Err(e) => last = Some(e),
                }
                tokio::time::sleep(OUTCOME_PAUSE).await;
            }
            last.map_or(Ok(None), Err)
        })
    }

    async fn status(&self, id: &str) -> Result<Option<String>, Error> {
        let client = self.connect().await?;
        let row = client.query_one("SELECT pg_xact_status(CAST($1 AS TEXT)::xid8)", &[&id]).await?;
        Ok(row.try_get(0)?)
    }

    pub(super) fn has_schema(&self, name: &'static str) -> bool {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    pub(super) fn note_schema(&self, name: &'static str) {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    }

    /// Gives back a connection that is outside a transaction.
    pub(super) fn give(&self, mut conn: PgConn) {
        conn.permit = None;
        if !conn.client.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        }
    }
}

/// One connection with its prepared statements.
pub(crate) struct PgConn {
    client: Client,
    runtime: Handle,
    statements: RefCell<HashMap<String, Statement>>,
    /// PostgreSQL's id of the write transaction that goes on.
    transaction: Cell<Option<String>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl std::fmt::Debug for PgConn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgConn").field("permit", &self.permit.is_some()).finish_non_exhaustive()
    }
}

impl PgConn {
    fn prepared(&self, sql: &str) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.runtime.block_on(self.client.prepare(sql))?;
        self.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(super) fn exec(&self, sql: &str, params: &[Param<'_>]) -> Result<u64, Error> {
        let statement = self.prepared(sql)?;
        let params = used(&statement, params);
        Ok(self.runtime.block_on(self.client.execute(&statement, &params))?)
    }

    pub(super) fn query(&self, sql: &str, params: &[Param<'_>], each: &mut dyn FnMut(&Row<'_>) -> bool) -> Result<(), Error> {
        let statement = self.prepared(sql)?;
        let params = used(&statement, params);
        for row in self.runtime.block_on(self.client.query(&statement, &params))? {
            if !each(&Row::Postgres(&row)) {
                break;
            }
        }
        Ok(())
    }

    /// Begins a write transaction, and asks for its id in the same turn.
    pub(super) fn begin(&self) -> Result<(), Error> {
        let messages = self.runtime.block_on(self.client.simple_query("BEGIN; SELECT pg_current_xact_id()"))?;
        let id = messages.iter().find_map(|m| match m {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        self.transaction.set(id);
        Ok(())
    }

    pub(super) fn batch(&self, sql: &str) -> Result<(), Error> {
        Ok(self.runtime.block_on(self.client.batch_execute(sql))?)
    }
}

/// The parameters that the statement has: texts for the two engines may use different numbers of them.
fn used<'p>(statement: &Statement, params: &'p [Param<'_>]) -> Vec<&'p (dyn ToSql + Sync)> {
    params.iter().take(statement.params().len()).map(|p| p as &(dyn ToSql + Sync)).collect()
}

/// An integer of any width, or a boolean.
pub(super) fn int(row: &tokio_postgres::Row, i: usize) -> Result<Option<i64>, Error> {
    let ty = row.columns().get(i).map(|c| c.type_().clone());
    Ok(match ty {
        Some(Type::INT4) => row.try_get::<_, Option<i32>>(i)?.map(i64::from),
        Some(Type::INT2) => row.try_get::<_, Option<i16>>(i)?.map(i64::from),
        Some(Type::BOOL) => row.try_get::<_, Option<bool>>(i)?.map(i64::from),
        _ => row.try_get(i)?,
    })
}
