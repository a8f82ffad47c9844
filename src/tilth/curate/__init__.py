"""From labelled pictures to a better labelled set: measure, cluster, rebalance, augment."""
