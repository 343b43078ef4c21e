//! What a filter names has to be there: a name that is written wrongly would wait
//! in silence for ever.

use crate::config::nearest;
use crate::proxy::Filter;
use crate::state::Snapshot;

/// Whether the configuration knows all of it.
///
/// # Errors
/// What it does not know, and what was probably meant.
pub(super) fn known(filter: &Filter, snapshot: &Snapshot) -> Result<(), String> {
    let games = snapshot.games.iter().map(|game| &*game.config.name);
    has("game", filter.game.as_deref(), games)?;
    let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|own| own == name);
    let groups = snapshot.groups().filter(|group| is(&filter.game, &group.game));
    has("group", filter.group.as_deref(), groups.map(|group| &*group.config.name))?;
    let groups = snapshot.groups().filter(|group| is(&filter.game, &group.game));
    let groups = groups.filter(|group| is(&filter.group, &group.config.name));
    let backends = groups.flat_map(|group| &group.backends).map(|one| &*one.config.name);
    has("backend", filter.backend.as_deref(), backends)
}

fn has<'a>(
    what: &str,
    name: Option<&str>,
    known: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    let known: Vec<&str> = known.collect();
    if known.contains(&name) {
        return Ok(());
    }
    let near = nearest(name, known.into_iter());
    let near = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
    Err(format!("there is no {what} `{name}`{near}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_named() {
        let names = || ["youxia", "chess"].into_iter();
        assert_eq!(has("game", None, names()), Ok(()));
        assert_eq!(has("game", Some("chess"), names()), Ok(()));
        let near = "there is no game `chss`: did you mean `chess`?";
        assert_eq!(has("game", Some("chss"), names()), Err(near.to_owned()));
        let none = "there is no game `10.0.0.1`";
        assert_eq!(has("game", Some("10.0.0.1"), names()), Err(none.to_owned()));
    }
}
