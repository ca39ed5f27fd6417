//! Something that happens in the middle of a transaction: a crash, or what another server commits at that very moment.
//!
//! A hook of the database driver sees each statement before it is sent. A crash is a panic there: the transaction is lost
//! as it is when a process dies, before its commit or right after it. Only connections to the database that the faults
//! were made for are watched, and only their transactions.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, Once};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

type Deed = Box<dyn FnOnce() + Send>;

/// What is to happen in the transactions of one database; made before that is opened.
pub(super) struct Faults {
    url: String,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan {
    /// Moments that still pass before the deed; nothing happens below zero.
    left: AtomicI64,
    deed: Mutex<Option<Deed>>,
    /// Moments that have passed.
    passed: AtomicI64,
    /// Whether what only reads is no moment.
    is_of_writes: AtomicBool,
}

static PLANS: Mutex<BTreeMap<String, Arc<Plan>>> = Mutex::new(BTreeMap::new());

impl Faults {
    /// For the database at this URL or path.
    pub(super) fn of(url: &str) -> Self {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| set_default_instrumentation(|| Some(Box::new(Watch::default()))).unwrap());
        let plan = Arc::new(Plan { left: AtomicI64::new(-1), ..Plan::default() });
        PLANS.lock().unwrap().insert(url.to_owned(), Arc::clone(&plan));
        Self { url: url.to_owned(), plan }
    }

    /// Counts only what writes from now on, and the ends of commits.
    pub(super) fn count_writes(&self) {
        self.plan.is_of_writes.store(true, Ordering::SeqCst);
    }

    /// Ends the transaction in which this many moments have passed from now on: each statement is one, and so is the end
    /// of a commit.
    pub(super) fn crash_after(&self, moments: i64) {
        // Without the message that a defect would print.
        self.after(moments, || resume_unwind(Box::new("a crash that the test wants")));
    }

    /// Does something at that moment, while the transaction stays open.
    pub(super) fn after(&self, moments: i64, deed: impl FnOnce() + Send + 'static) {
        *self.plan.deed.lock().unwrap() = Some(Box::new(deed));
        self.plan.left.store(moments, Ordering::SeqCst);
    }

    /// Takes back what has not happened; returns whether it has.
    pub(super) fn clear(&self) -> bool {
        self.plan.left.store(-1, Ordering::SeqCst);
        self.plan.deed.lock().unwrap().take().is_none()
    }

    /// Moments that have passed in all.
    pub(super) fn passed(&self) -> i64 {
        self.plan.passed.load(Ordering::SeqCst)
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        PLANS.lock().unwrap().remove(&self.url);
    }
}

impl Plan {
    fn pass(&self) {
        self.passed.fetch_add(1, Ordering::SeqCst);
        if self.left.load(Ordering::SeqCst) >= 0 && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            let deed = self.deed.lock().unwrap().take();
            if let Some(deed) = deed {
                deed();
            }
        }
    }
}

/// One connection's hook.
#[derive(Default)]
struct Watch {
    plan: Option<Arc<Plan>>,
    at: At,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Outside,
    Inside,
    Commit,
    RollBack,
}

impl Instrumentation for Watch {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartEstablishConnection { url, .. } => {
                self.plan = PLANS.lock().unwrap().get(url).cloned();
            }
            InstrumentationEvent::BeginTransaction { .. } => self.at = At::Inside,
            InstrumentationEvent::CommitTransaction { .. } => self.at = At::Commit,
            InstrumentationEvent::RollbackTransaction { .. } => self.at = At::RollBack,
            InstrumentationEvent::StartQuery { query, .. } => match (self.at, &self.plan) {
                (At::Inside | At::Commit, Some(plan)) => {
                    let is_read = || query.to_string().starts_with("SELECT");
                    if !(plan.is_of_writes.load(Ordering::SeqCst) && is_read()) {
                        plan.pass();
                    }
                }
                (At::Outside | At::RollBack, _) | (_, None) => {}
            },
            InstrumentationEvent::FinishQuery { .. } => match self.at {
                At::Commit => {
                    self.at = At::Outside;
                    if let Some(plan) = &self.plan {
                        plan.pass();
                    }
                }
                At::RollBack => self.at = At::Outside,
                At::Outside | At::Inside => {}
            },
            _ => {}
        }
    }
}
