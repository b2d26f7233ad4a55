use crate::world::{DYNAMIC, STATIC, World, outside};
use mox_base::Domain;
use mox_config::{EditError, Live, Reload};
use std::convert::Infallible;

fn live(world: &World) -> Live {
    Live::open(&world.path("mox.conf"), &outside()).unwrap().0
}

#[test]
fn reload_swaps_a_good_file_and_keeps_the_old_one_against_a_bad_one() {
    let world = World::new(STATIC, DYNAMIC);
    let live = live(&world);
    assert!(matches!(live.reload(), Reload::Unchanged));

    std::fs::write(world.path("domains.conf"), format!("{DYNAMIC}Nonsense: 1\n")).unwrap();
    let Reload::Refused(problems) = live.reload() else { panic!("accepted") };
    assert_eq!(problems.0[0].line, Some(9));
    assert!(matches!(live.reload(), Reload::Unchanged), "said once");
    assert_eq!(live.refused(), Some(problems));
    assert_eq!(live.snapshot().dynamic.domains.len(), 1);

    std::fs::write(world.path("domains.conf"), DYNAMIC.replace("Accounts:", "\tother.example:\n\t\tDisabled: true\nAccounts:")).unwrap();
    let before = live.snapshot();
    let Reload::Swapped { snapshot, .. } = live.reload() else { panic!("not swapped") };
    assert_eq!((before.dynamic.domains.len(), snapshot.dynamic.domains.len()), (1, 2));
    assert!(live.refused().is_none());
    assert_eq!(live.snapshot().dynamic.domains.len(), 2);
}

#[test]
fn edit_writes_and_activates() {
    let world = World::new(STATIC, DYNAMIC);
    let live = live(&world);
    let snapshot = live
        .edit(|dynamic| {
            dynamic.accounts.get_mut("ann").unwrap().full_name = "Ann".to_owned();
            Ok::<_, Infallible>(())
        })
        .unwrap();
    assert_eq!(snapshot.dynamic.accounts["ann"].full_name, "Ann");
    assert!(matches!(live.reload(), Reload::Unchanged), "our own write is no change");
    let text = std::fs::read_to_string(world.path("domains.conf")).unwrap();
    assert_eq!(text, DYNAMIC.replace("Destinations:", "FullName: Ann\n\t\tDestinations:"));
}

#[test]
fn edit_refuses_what_is_invalid() {
    let world = World::new(STATIC, DYNAMIC);
    let live = live(&world);
    let error = live
        .edit(|dynamic| {
            dynamic.accounts.clear();
            dynamic.domains.remove(&Domain::parse("example.org").unwrap());
            Ok::<_, Infallible>(())
        })
        .unwrap_err();
    assert_eq!(error.to_string(), "config error: postmaster account \"ann\" of mox.conf doesn't exist");
    let error = live
        .edit(|dynamic| {
            dynamic.accounts.get_mut("ann").unwrap().full_name = "Ann\nLoginDisabled: no".to_owned();
            Ok::<_, Infallible>(())
        })
        .unwrap_err();
    assert!(matches!(error, EditError::Unwritable(_)));
    assert_eq!(std::fs::read_to_string(world.path("domains.conf")).unwrap(), DYNAMIC);
    assert!(live.snapshot().dynamic.accounts.contains_key("ann"));
}

#[test]
fn edit_takes_a_change_by_hand_along_and_does_not_overwrite_a_broken_one() {
    let world = World::new(STATIC, DYNAMIC);
    let live = live(&world);
    let change = |dynamic: &mut mox_config::Dynamic| {
        dynamic.accounts.get_mut("ann").unwrap().description = "x".to_owned();
        Ok::<_, Infallible>(())
    };
    std::fs::write(world.path("domains.conf"), "broken").unwrap();
    for _ in 0..2 {
        assert!(matches!(live.edit(change), Err(EditError::Disk(_))));
    }
    assert_eq!(std::fs::read_to_string(world.path("domains.conf")).unwrap(), "broken");
    std::fs::write(world.path("domains.conf"), DYNAMIC.replace("example.org:\n", "example.org:\n\t\tDescription: by hand\n")).unwrap();
    let snapshot = live.edit(change).unwrap();
    assert_eq!(snapshot.dynamic.domains[&Domain::parse("example.org").unwrap()].description, "by hand");
    assert_eq!(snapshot.dynamic.accounts["ann"].description, "x");
}

#[test]
fn explicit_zeros_may_disappear() {
    let world = World::new(STATIC, &DYNAMIC.replace("\t\tDest", "\t\tSubjectPass:\n\t\t\tPeriod: 0s\n\t\tDest"));
    let live = live(&world);
    let snapshot = live.edit(|_| Ok::<_, Infallible>(())).unwrap();
    assert!(snapshot.dynamic.accounts["ann"].subject_pass.is_none());
}
