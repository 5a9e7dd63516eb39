//! How what several workers know becomes one, and how many of a list are told. Pure.

use super::{ClientView, DatabaseView, MOST_LISTED, PoolView, ProxyView, SessionView};

/// What the workers know of the proxies, as one: numbers are added, and of the database the worst that one of them has
/// found counts. The proxies are in the order of whoever answers first, and the lists within [`MOST_LISTED`].
pub fn merged(parts: impl IntoIterator<Item = Vec<ProxyView>>) -> Vec<ProxyView> {
    let mut all: Vec<ProxyView> = Vec::new();
    for proxy in parts.into_iter().flatten() {
        match all.iter_mut().find(|known| known.name == proxy.name) {
            Some(known) => known.add(proxy),
            None => all.push(proxy),
        }
    }
    let sessions = shares(&all.iter().map(|proxy| proxy.session_list.len()).collect::<Vec<_>>(), MOST_LISTED);
    let clients = shares(&all.iter().map(|proxy| proxy.client_list.len()).collect::<Vec<_>>(), MOST_LISTED);
    for (proxy, (sessions, clients)) in all.iter_mut().zip(sessions.into_iter().zip(clients)) {
        keep_first(&mut proxy.session_list, sessions, |session| (session.state, session.id));
        keep_first(&mut proxy.client_list, clients, |client| (client.state, client.id));
        proxy.session_list.sort_unstable_by_key(|session| session.id);
        proxy.client_list.sort_unstable_by_key(|client| client.id);
        (proxy.sessions_listed, proxy.clients_listed) = (proxy.session_list.len(), proxy.client_list.len());
    }
    all
}

/// How `most` are shared out among those who want so many each: nobody gets more than it wants, and whoever wants more than
/// its part gets what others leave.
pub(crate) fn shares(wanted: &[usize], most: usize) -> Vec<usize> {
    let mut shares = vec![0; wanted.len()];
    let mut in_order: Vec<_> = (0..wanted.len()).collect();
    in_order.sort_unstable_by_key(|place| wanted[*place]);
    let mut left = most;
    for (done, place) in in_order.into_iter().enumerate() {
        shares[place] = wanted[place].min(left / (wanted.len() - done));
        left -= shares[place];
    }
    shares
}

fn keep_first<T, K: Ord>(list: &mut Vec<T>, most: usize, rank: impl Fn(&T) -> K) {
    if most < list.len() {
        list.select_nth_unstable_by_key(most, rank);
        list.truncate(most);
    }
}

// === impl ProxyView ===

impl ProxyView {
    /// Adds what another worker knows of the same proxy.
    fn add(&mut self, other: ProxyView) {
        self.sessions += other.sessions;
        self.max_peers += other.max_peers;
        self.pool.add(other.pool);
        self.database.add(other.database);
        self.session_list.extend::<Vec<SessionView>>(other.session_list);
        self.client_list.extend::<Vec<ClientView>>(other.client_list);
    }
}

// === impl PoolView ===

impl PoolView {
    fn add(&mut self, other: PoolView) {
        self.size += other.size;
        self.min_idle += other.min_idle;
        self.idle += other.idle;
        self.lent += other.lent;
        self.resetting += other.resetting;
        self.dialing += other.dialing;
        self.waiting += other.waiting;
        self.longest_wait_seconds = self.longest_wait_seconds.max(other.longest_wait_seconds);
        self.paused |= other.paused;
    }
}

// === impl DatabaseView ===

impl DatabaseView {
    fn add(&mut self, other: DatabaseView) {
        let is_newer = other.current.is_some() && other.current_seconds < self.current_seconds;
        if self.current.is_none() || is_newer {
            (self.current, self.current_seconds) = (other.current, other.current_seconds);
        }
        let is_later = |ours: &super::ErrorView| {
            other.last_error.as_ref().is_some_and(|theirs| theirs.ago_seconds < ours.ago_seconds)
        };
        if self.last_error.as_ref().is_none_or(is_later) {
            self.last_error = other.last_error;
        }
        let is_longer = other.state == self.state && other.since_seconds > self.since_seconds;
        if other.state > self.state || is_longer {
            (self.state, self.since_seconds) = (other.state, other.since_seconds);
            (self.cause, self.retry) = (other.cause, other.retry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DatabaseState, ErrorView, SessionState, Totals};
    use super::*;

    fn proxy(name: &str, sessions: &[(u64, SessionState)]) -> ProxyView {
        let session = |(id, state): &(u64, SessionState)| SessionView {
            id: *id,
            peer: "unix".into(),
            user: None,
            database: None,
            application: None,
            state: *state,
            since_seconds: 1.0,
            state_since_seconds: 1.0,
            waits: *state == SessionState::Waiting,
            client: None,
        };
        ProxyView {
            name: name.into(),
            protocol: "opaque",
            mode: "opaque",
            network: "tcp",
            address: String::new(),
            sessions: sessions.len(),
            max_peers: 10,
            pool: PoolView { size: 4, lent: 1, waiting: 1, longest_wait_seconds: 0.5, ..PoolView::default() },
            database: database(DatabaseState::Up, 1.0),
            totals: Totals::default(),
            sessions_listed: 0,
            clients_listed: 0,
            session_list: sessions.iter().map(session).collect(),
            client_list: Vec::new(),
        }
    }

    fn database(state: DatabaseState, since_seconds: f64) -> DatabaseView {
        DatabaseView {
            state,
            since_seconds,
            addresses: vec!["db:5432".into()],
            current: None,
            current_seconds: 0.0,
            cause: (state > DatabaseState::Up).then(|| format!("{state:?} for {since_seconds}")),
            last_error: None,
            retry: None,
        }
    }

    fn added(ours: DatabaseView, theirs: DatabaseView) -> (DatabaseState, Option<String>) {
        let mut all = ours;
        all.add(theirs);
        (all.state, all.cause)
    }

    #[test]
    fn what_workers_know_of_one_proxy_is_added_up() {
        let first = proxy("a", &[(1, SessionState::Idle), (3, SessionState::Active)]);
        let second = ProxyView { max_peers: 5, ..proxy("a", &[(2, SessionState::Waiting)]) };
        let all = merged([vec![first, proxy("b", &[])], vec![second, proxy("b", &[])]]);
        assert_eq!(all.iter().map(|proxy| proxy.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let ids: Vec<_> = all[0].session_list.iter().map(|session| session.id).collect();
        assert_eq!((all[0].sessions, all[0].max_peers, ids), (3, 15, vec![1, 2, 3]));
        assert_eq!((all[0].pool.size, all[0].pool.waiting, all[0].sessions_listed), (8, 2, 3));
    }

    #[test]
    fn of_the_database_the_worst_and_longest_counts() {
        let (up, unknown) = (|| database(DatabaseState::Up, 9.0), || database(DatabaseState::Unknown, 9.0));
        let (away, down) = (|since| database(DatabaseState::Away, since), || database(DatabaseState::Down, 1.0));
        let cause = |cause: &str| Some(cause.to_owned());
        assert_eq!(added(up(), away(2.0)), (DatabaseState::Away, cause("Away for 2")));
        assert_eq!(added(away(3.0), away(2.0)), (DatabaseState::Away, cause("Away for 3")));
        assert_eq!(added(away(3.0), down()), (DatabaseState::Down, cause("Down for 1")));
        assert_eq!(added(unknown(), up()), (DatabaseState::Up, None));
    }

    #[test]
    fn the_newest_client_and_the_latest_error_count() {
        let with = |current: Option<&str>, current_seconds, ago: Option<f64>| DatabaseView {
            current: current.map(Into::into),
            current_seconds,
            last_error: ago.map(|ago_seconds| ErrorView { ago_seconds, text: format!("{ago_seconds} ago") }),
            ..database(DatabaseState::Up, 1.0)
        };
        let mut all = with(None, 0.0, None);
        for other in [with(Some("a"), 9.0, Some(5.0)), with(Some("b"), 3.0, None), with(Some("c"), 4.0, Some(7.0))] {
            all.add(other);
        }
        assert_eq!(all.current.as_deref(), Some("b"));
        assert_eq!(all.last_error.map(|error| error.text).as_deref(), Some("5 ago"));
    }

    #[test]
    fn lists_are_short_and_show_who_waits() {
        let sessions: Vec<_> = (0..3 * MOST_LISTED as u64).map(|id| (id, SessionState::Idle)).collect();
        let mut crowd = sessions.clone();
        crowd[2999].1 = SessionState::Waiting;
        let all = merged([vec![proxy("a", &crowd), proxy("b", &sessions[..100])]]);
        assert_eq!((all[0].sessions, all[0].sessions_listed, all[1].sessions_listed), (3000, 900, 100));
        assert_eq!(all[0].session_list.last().map(|session| session.id), Some(2999));
    }

    #[test]
    fn nobody_gets_more_than_it_wants_and_nothing_is_left_that_is_wanted() {
        assert_eq!(shares(&[5, 100, 2], 30), [5, 23, 2]);
        assert_eq!(shares(&[100, 100, 100], 30), [10, 10, 10]);
        assert_eq!(shares(&[1, 2], 30), [1, 2]);
        assert_eq!(shares(&[7, 7], 3), [1, 2]);
        assert_eq!(shares(&[], 3), [0; 0]);
    }
}
