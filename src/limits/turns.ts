/** Who waits, in turn: one of each group after the other, and within a group whoever came first. */
export class Turns<Member> {
  /** Groups in the order in which their turn comes. */
  readonly #groups = new Map<string, Member[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  join(group: string, member: Member): void {
    const members = this.#groups.get(group);
    if (members === undefined) this.#groups.set(group, [member]);
    else members.push(member);
    this.#size++;
  }

  /** Whose turn it is; its group comes last from now on. Undefined: nobody waits. */
  next(): Member | undefined {
    for (const [group, members] of this.#groups) {
      this.#groups.delete(group);
      const member = members.shift();
      if (members.length > 0) this.#groups.set(group, members);
      this.#size--;
      return member;
    }
    return undefined;
  }

  /** False: it did not wait. */
  leave(group: string, member: Member): boolean {
    const members = this.#groups.get(group);
    const at = members?.indexOf(member) ?? -1;
    if (members === undefined || at === -1) return false;
    members.splice(at, 1);
    if (members.length === 0) this.#groups.delete(group);
    this.#size--;
    return true;
  }

  /** All, in the order in which they will have their turn if nobody joins or leaves. */
  list(): Member[] {
    const groups = [...this.#groups.values()];
    const order: Member[] = [];
    for (let round = 0; order.length < this.#size; round++)
      for (const members of groups) {
        const member = members[round];
        if (member !== undefined) order.push(member);
      }
    return order;
  }
}
