// What a reader has chosen, in the address behind the "#": a link shows what its sender saw.

/** A state whose keys have these defaults; what is at its default is not in the address. */
export function addressState(defaults, onchange) {
  const read = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    const state = { ...defaults };
    for (const key of Object.keys(defaults)) if (given.has(key)) state[key] = given.get(key);
    return state;
  };
  const holder = {
    now: read(),
    /** The address of a state that differs from this one in some keys. */
    address(changes) {
      const next = { ...holder.now, ...changes };
      const kept = Object.entries(next).filter(([key, value]) => `${value}` !== `${defaults[key]}`);
      return `#${new URLSearchParams(kept)}`;
    },
    /** Change some keys.  ``step``: the browser's back button returns to what was before. */
    set(changes, step = false) {
      const address = holder.address(changes);
      history[step ? "pushState" : "replaceState"](null, "", address);
      holder.now = read();
      onchange(holder.now, Object.keys(changes));
    },
  };
  const follow = () => {
    holder.now = read();
    onchange(holder.now, Object.keys(defaults));
  };
  addEventListener("hashchange", follow);
  addEventListener("popstate", follow);
  return holder;
}

/** What a state may be: anything else in an address is taken for the default. */
export function checked(state, defaults, known) {
  const out = { ...state };
  for (const [key, values] of Object.entries(known)) if (!values.includes(state[key])) out[key] = defaults[key];
  return out;
}
